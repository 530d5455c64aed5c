"""Prints what metric definitions look for, in the style of Keras, XGBoost and tqdm."""

import argparse
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--sleep", type=float, default=0.0)
args = parser.parse_args()
for epoch in range(1, args.epochs + 1):
    loss = (args.lr - 0.3) ** 2 + 1.0 / epoch
    sys.stderr.write("\rEpoch {}:  50%|#####     | 1/2\rEpoch {}: 100%|##########| 2/2\n".format(epoch, epoch))
    print("[%d]\ttrain-rmse:%.5f\tvalidation-auc:%.5f" % (epoch - 1, loss, 1 - loss / 10))
    print(
        "Epoch %d/%d - 1s - loss: %.4f - val_accuracy: %.4f;" % (epoch, args.epochs, loss, 0.5 + 0.05 * epoch),
        flush=True,
    )
    time.sleep(args.sleep)
