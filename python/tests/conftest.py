import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
