"""What Jacobians are for: per-example gradients, kernels, Gauss-Newton and Fisher matrices, Hessians, Laplacians."""
