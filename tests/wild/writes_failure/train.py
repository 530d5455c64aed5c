"""Says in its own words why it fails, as containers of one's own do."""

import os
import sys
import traceback

try:
    raise ValueError("the label column 'target' is missing")
except Exception as e:
    trc = traceback.format_exc()
    with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as s:
        s.write("Exception during training: " + str(e) + "\n" + trc)
    print("Exception during training: " + str(e) + "\n" + trc, file=sys.stderr)
    sys.exit(255)
