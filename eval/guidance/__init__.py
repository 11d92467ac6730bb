"""What guidance looks at, the masks of each scorer, and what it changes, contrast and sharpness of images."""
