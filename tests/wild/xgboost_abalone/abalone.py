"""xgboost in script mode, which goes on from the checkpoints it keeps."""

import argparse
import os
import pickle as pkl

import xgboost as xgb

CHECKPOINTS = os.path.join(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "checkpoints")

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_depth", type=int)
    parser.add_argument("--eta", type=float)
    parser.add_argument("--objective", type=str)
    parser.add_argument("--num_round", type=int)
    parser.add_argument("--train", type=str, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--validation", type=str, default=os.environ.get("SM_CHANNEL_VALIDATION"))
    args = parser.parse_args()

    dtrain = xgb.DMatrix(os.path.join(args.train, os.listdir(args.train)[0]) + "?format=libsvm")
    dval = xgb.DMatrix(os.path.join(args.validation, os.listdir(args.validation)[0]) + "?format=libsvm")
    params = {"max_depth": args.max_depth, "eta": args.eta, "objective": args.objective}
    bst = xgb.train(params, dtrain, num_boost_round=args.num_round, evals=[(dtrain, "train"), (dval, "validation")])
    bst.save_model(os.path.join(CHECKPOINTS, "xgboost-checkpoint.{}".format(args.num_round)))
    pkl.dump(bst, open(os.path.join(os.environ["SM_MODEL_DIR"], "xgboost-model"), "wb"))
