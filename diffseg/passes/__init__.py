"""One pass of a pipeline's denoiser over a picture: which pipelines can, at which size, at which noise."""
