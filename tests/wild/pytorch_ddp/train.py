"""Data-parallel training as estimators with distribution={"torch_distributed": {"enabled": True}} start it."""

import argparse
import json
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP


def main(args):
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(args.seed)
    model = DDP(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    generator = torch.Generator().manual_seed(rank)
    truth = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    for epoch in range(args.epochs):
        x = torch.randn(args.batch_size, 4, generator=generator)
        loss = torch.nn.functional.mse_loss(model(x), x @ truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        if rank == 0:
            print("Epoch: {} Train Loss: {:.6f};".format(epoch + 1, total.item() / world_size), flush=True)
    if rank == 0:
        torch.save(model.module.state_dict(), os.path.join(args.model_dir, "model.pth"))
        with open(os.path.join(args.output_data_dir, "world.json"), "w") as f:
            json.dump({"world_size": world_size, "hosts": json.loads(os.environ["SM_HOSTS"])}, f)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-data-dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
