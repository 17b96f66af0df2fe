"""The models: S-ViT, which sees a video frame by frame and remembers, and what stands on it.

Letters in shape comments: B pictures in a batch (streams with a new frame), T frames of a clip, h and w the
token grid of a picture, L = h*w its tokens, n window side, N = n*n, W windows of a picture, C width, H
heads, D = C/H.
"""
