"""What Jacobians are used for: per-example gradients, kernels, Gauss-Newton and Fisher matrices, Hessians, Laplacians.

Every quantity is an expression of the rows of a Jacobian, which `rows` holds.  None depends on any particular layer.
"""

from .clipping import clip_per_example as clip_per_example
from .determinants import logdet as logdet
from .ekfac import ekfac_factors as ekfac_factors
from .gauss_newton import fisher as fisher
from .gauss_newton import ggn as ggn
from .gauss_newton import ggn_diagonal as ggn_diagonal
from .gauss_newton import ggn_vector_product as ggn_vector_product
from .gauss_newton_cg import gauss_newton_cg as gauss_newton_cg
from .gauss_newton_matrix import GaussNewton as GaussNewton
from .hessian import hessian_diagonal as hessian_diagonal
from .hessian import hessian_vector_product as hessian_vector_product
from .influence import influence as influence
from .influence import self_influence as self_influence
from .kernel import ntk as ntk
from .kernel import ntk_vector_product as ntk_vector_product
from .kernel_measures import effective_rank as effective_rank
from .kernel_measures import kernel_alignment as kernel_alignment
from .kfac import kfac_factors as kfac_factors
from .kfac_optimizer import kfac as kfac
from .kronecker import EigenKronecker as EigenKronecker
from .kronecker import Kronecker as Kronecker
from .laplace import Posterior as Posterior
from .laplace import laplace as laplace
from .laplacian import divergence as divergence
from .laplacian import laplacian as laplacian
from .natural_gradient import natural_gradient as natural_gradient
from .norms import jacobian_norm as jacobian_norm
from .per_example import gradient_noise_scale as gradient_noise_scale
from .per_example import gradient_variance as gradient_variance
from .per_example import per_example_grad_norms as per_example_grad_norms
from .per_example import per_example_grads as per_example_grads
from .private_gradients import ClippedGrad as ClippedGrad
from .private_gradients import clipped_grad as clipped_grad
from .private_gradients import value_and_clipped_grad as value_and_clipped_grad
from .privatizer import gaussian_privatizer as gaussian_privatizer
from .saliency import gradient_times_input as gradient_times_input
from .saliency import integrated_gradients as integrated_gradients
from .saliency import saliency as saliency
from .saliency import smooth_gradient as smooth_gradient
from .spectra import Spectrum as Spectrum
from .spectra import spectrum as spectrum
