"""The older way: one process a host, which finds its rank among SM_HOSTS, as in the SDK's MNIST example."""

import argparse
import json
import logging
import os
import socket
import sys

import torch
import torch.distributed as dist

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))


def train(args):
    is_distributed = len(args.hosts) > 1 and args.backend is not None
    logger.debug("Distributed training - {}".format(is_distributed))
    logger.debug("Number of gpus available - {}".format(args.num_gpus))
    assert socket.gethostbyname(args.current_host)
    if is_distributed:
        world_size = len(args.hosts)
        os.environ["WORLD_SIZE"] = str(world_size)
        host_rank = args.hosts.index(args.current_host)
        os.environ["RANK"] = str(host_rank)
        dist.init_process_group(backend=args.backend, rank=host_rank, world_size=world_size)
    value = torch.ones(1)
    if is_distributed:
        dist.all_reduce(value)
    logger.info("Test set: Average loss: {:.4f}, Accuracy: 9/10 (90%)\n".format(0.1 * value.item()))
    torch.save({"sum": value}, os.path.join(args.model_dir, "model-{}.pth".format(args.current_host)))
    if is_distributed:
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", type=str, default=None)
    parser.add_argument("--hosts", type=list, default=json.loads(os.environ["SM_HOSTS"]))
    parser.add_argument("--current-host", type=str, default=os.environ["SM_CURRENT_HOST"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--data-dir", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--num-gpus", type=int, default=os.environ["SM_NUM_GPUS"])
    train(parser.parse_args())
