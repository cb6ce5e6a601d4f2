"""Names of PyTorch, jax.nn and optax, and what stands for them here.

One line of a table has the names, the main one first, then how jaxnets writes it, then what differs or, where jaxnets has
nothing, why.  Hints of errors, the page `from_torch` of the guide and the comparison with PyTorch read these tables.
"""

import dataclasses
import re

PYTORCH = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
  | adaptive_avg_pool | one number counts for all axes of space
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
  | adaptive_max_pool | one number counts for all axes of space
adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
  | adaptive_max_pool_indices | the places alone
affine_grid grid_sample
  | | samples images at computed places, which jaxnets does not
alpha_dropout AlphaDropout feature_alpha_dropout FeatureAlphaDropout
  | | noise that keeps mean and variance, for networks of `selu`
avg_pool1d avg_pool2d avg_pool3d AvgPool1d AvgPool2d AvgPool3d
  | avg_pool | padding may differ before and after an axis; `dilation`
batch_norm BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm
  | batch_norm | returns y and the new statistics, changes nothing; all after x is given by name
bilinear Bilinear
  | bilinear |
binary_cross_entropy BCELoss
  | binary_cross_entropy | log p is not cut off at −100
binary_cross_entropy_with_logits BCEWithLogitsLoss
  | binary_cross_entropy_with_logits | `pos_weight` is given by name
celu CELU
  | celu |
channel_shuffle ChannelShuffle native_channel_shuffle
  | channel_shuffle | `groups` is given by name
conv1d Conv1d LazyConv1d
  | conv1d | padding may be "valid", "same" or (before, after); modes of padding: `pad` first
conv2d Conv2d LazyConv2d
  | conv2d | as conv1d
conv3d Conv3d LazyConv3d
  | conv3d | as conv1d
conv_tbc
  | conv1d | move the time axis to the end
conv_transpose1d ConvTranspose1d LazyConvTranspose1d
  | conv_transpose1d |
conv_transpose2d ConvTranspose2d LazyConvTranspose2d
  | conv_transpose2d |
conv_transpose3d ConvTranspose3d LazyConvTranspose3d
  | conv_transpose3d |
cosine_embedding_loss CosineEmbeddingLoss
  | cosine_embedding | one loss for each pair
cosine_similarity CosineSimilarity
  | cosine_similarity | no broadcasting; the axis is the last one, in PyTorch 1
cross_entropy CrossEntropyLoss
  | cross_entropy | classes at the last axis, in PyTorch at 1: `axis=1`; a mean by class weights is `reduce(y, weights=…)`
ctc_loss CTCLoss
  | ctc | batch first, [b, t, k]; logits or log-probabilities; lengths by name; not divided by the lengths of labels
dropout Dropout
  | dropout(x, key, rate=p) | the randomness is a key
dropout1d Dropout1d
  | dropout(x, key, shared=(2,)) | whole channels
dropout2d Dropout2d
  | dropout(x, key, shared=(2, 3)) | whole channels
dropout3d Dropout3d
  | dropout(x, key, shared=(2, 3, 4)) | whole channels
elu ELU
  | elu |
embedding Embedding
  | embedding | `padding_index` counts from 0; `max_norm` leaves the table as it is, and its derivative is the true one
embedding_bag EmbeddingBag
  | embedding_bag | a bag is a row of indices, filled up with `padding_index`: no offsets
fold Fold unfold Unfold
  | | a convolution does it without the copies: `conv`
fractional_max_pool2d fractional_max_pool2d_with_indices FractionalMaxPool2d
  | | its windows are random
fractional_max_pool3d fractional_max_pool3d_with_indices FractionalMaxPool3d
  | | its windows are random
gaussian_nll_loss GaussianNLLLoss
  | gaussian_nll | a variance below eps has derivative 0 and is no error
gelu GELU
  | gelu | the exact form is the default in both
glu GLU
  | glu |
group_norm GroupNorm
  | group_norm(x, scale, bias, groups=…) | eps inside of the root, in both
gumbel_softmax
  | softmax | add the noise of `jax.random.gumbel` to the logits first
hardshrink Hardshrink
  | hard_shrink |
hardsigmoid Hardsigmoid
  | hard_sigmoid | slope and offset can be chosen
hardswish Hardswish
  | hard_swish |
hardtanh Hardtanh
  | hard_tanh |
hinge_embedding_loss HingeEmbeddingLoss
  | hinge_embedding | targets are 1 or −1
huber_loss HuberLoss
  | huber | no weights: `reduce(y, weights=…)`
instance_norm InstanceNorm1d InstanceNorm2d InstanceNorm3d
  | instance_norm | no running statistics; all after x is given by name
interpolate Upsample upsample upsample_bilinear upsample_nearest UpsamplingBilinear2d UpsamplingNearest2d
  | interpolate | the mode “area” is `adaptive_avg_pool`; `size` in the place of `recompute_scale_factor`
kl_div KLDivLoss
  | kl_divergence(x, t, axis=None) | without `axis=None` it is summed over classes; `reduce(y, "batchmean")`
l1_loss L1Loss
  | absolute_error | the derivative at 0 is 0, in both
layer_norm LayerNorm
  | layer_norm(x, scale, bias, axis=…) | axes in the place of `normalized_shape`; eps inside of the root, in both
leaky_relu LeakyReLU
  | leaky_relu |
linear Linear LazyLinear
  | linear | w is [out, in], in both
linear_cross_entropy LinearCrossEntropyLoss
  | cross_entropy(linear(x, w, b), t) | products of Jacobians store no array of all logits' derivatives
local_response_norm LocalResponseNorm CrossMapLRN2d
  | local_response_norm |
log_softmax LogSoftmax
  | log_softmax | `axis` is −1 unless it is given
logsigmoid LogSigmoid
  | log_sigmoid |
lp_pool1d lp_pool2d lp_pool3d LPPool1d LPPool2d LPPool3d
  | lp_pool | powers of absolute values, in PyTorch of the entries with their sign
margin_ranking_loss MarginRankingLoss
  | margin_ranking | no broadcasting
max_pool1d max_pool2d max_pool3d MaxPool1d MaxPool2d MaxPool3d
  | max_pool | of equal entries the first counts, in both
max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
  | max_pool_indices | the places alone, counted as in PyTorch; a window of padding alone has −1
max_unpool1d max_unpool2d max_unpool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d
  | max_unpool | places as those of `max_pool_indices`
mish Mish
  | mish |
mse_loss MSELoss
  | squared_error | one loss for each entry; the factor is 1, in both
multi_head_attention_forward MultiheadAttention
  | multi_head_attention | a composition of `linear` and `attention`; one weight each for queries, keys and values
multi_margin_loss MultiMarginLoss
  | multi_class_hinge | classes at the last axis
multilabel_margin_loss MultiLabelMarginLoss
  | multilabel_margin | one loss for each example
multilabel_soft_margin_loss MultiLabelSoftMarginLoss
  | multilabel_soft_margin | one loss for each example
nll_loss NLLLoss NLLLoss2d
  | nll | classes at the last axis, in PyTorch at 1: `axis=1`; a mean by class weights is `reduce(y, weights=…)`
normalize
  | normalize | the axis is the last one, in PyTorch 1; max(norm, eps), in both
one_hot
  | one_hot | the dtype is that of floats, in PyTorch integers; the number of classes is given
pad ConstantPad1d ConstantPad2d ConstantPad3d ZeroPad1d ZeroPad2d ZeroPad3d
  | pad | a pair for each axis from the first one, in PyTorch numbers from the last one; never negative
CircularPad1d CircularPad2d CircularPad3d
  | pad(x, padding=…, mode="circular") |
ReflectionPad1d ReflectionPad2d ReflectionPad3d
  | pad(x, padding=…, mode="reflect") |
ReplicationPad1d ReplicationPad2d ReplicationPad3d
  | pad(x, padding=…, mode="replicate") |
pairwise_distance PairwiseDistance
  | pairwise_distance | no broadcasting; eps is added to the difference, in both
pdist
  | pairwise_distance | of pairs that are given: no layer makes all of them
pixel_shuffle PixelShuffle
  | pixel_shuffle(x, factor=…) |
pixel_unshuffle PixelUnshuffle
  | pixel_unshuffle(x, factor=…) |
poisson_nll_loss PoissonNLLLoss
  | poisson_nll | a count of 0 that is expected gives 0
prelu PReLU
  | prelu | the slope may have a number for each entry
relu ReLU
  | relu | the derivative at 0 is 0, in both
relu6 ReLU6
  | relu6 |
rms_norm RMSNorm
  | rms_norm(x, scale, axis=…) | eps is 1e-6, in PyTorch that of the dtype; inside of the root, in both
rrelu RReLU
  | leaky_relu | its slope is random in training; in evaluation it is the mean of the two
scaled_dot_product_attention
  | attention | bias and mask are two arguments; a query that attends to nothing gives 0, not NaN
selu SELU
  | selu |
sigmoid Sigmoid
  | sigmoid |
silu SiLU
  | silu | also called `swish`
smooth_l1_loss SmoothL1Loss
  | smooth_l1 |
soft_margin_loss SoftMarginLoss
  | soft_margin | targets are 1 or −1
softmax Softmax Softmax2d
  | softmax | `axis` is −1 unless it is given; a masked row gives 0
softmin Softmin
  | softmin |
softplus Softplus
  | softplus | nothing is cut off unless `threshold=20.0` is given
softshrink Softshrink
  | soft_shrink |
softsign Softsign
  | softsign |
tanh Tanh
  | tanh |
tanhshrink Tanhshrink
  | tanh_shrink |
threshold Threshold
  | threshold |
triplet_margin_loss TripletMarginLoss
  | triplet | no broadcasting
triplet_margin_with_distance_loss TripletMarginWithDistanceLoss
  | relu | of the difference of any two distances, plus the margin
celu_ elu_ hardtanh_ leaky_relu_ relu_ rrelu_ selu_ threshold_
  | | works in place, which arrays of JAX do not allow: the name without _
grouped_mm scaled_grouped_mm scaled_mm
  | | products of weights of 8 bits or fewer
weight_norm
  | weight_norm | a function of direction and length; the length has one axis
spectral_norm
  | spectral_norm | a function of the weights and of u, which `power_iteration` brings on
Identity
  | identity |
Flatten
  | flatten | from axis 1 on, in both
RNN RNNCell
  | rnn | one layer in one direction, with time at the last axis but one; returns all states
LSTM LSTMCell
  | lstm | one layer in one direction; returns all outputs; order of the gates i, f, g, o, in both
GRU GRUCell
  | gru | one layer in one direction; r multiplies after the product, in both
Transformer TransformerEncoder TransformerDecoder TransformerEncoderLayer TransformerDecoderLayer
  | | compose `multi_head_attention`, `layer_norm` and `linear`
AdaptiveLogSoftmaxWithLoss
  | | a tree of classes, in the place of which `cross_entropy` takes all
"""

TORCH = """
add
  | add | `alpha` is a factor that you write
sub subtract
  | subtract | `alpha` is a factor that you write
mul
  | multiply |
matmul mm bmm mv dot
  | matmul |
einsum
  | einsum |
maximum
  | maximum | at a tie all of the derivative is that of the second array, in PyTorch half of each
minimum
  | minimum | at a tie all of the derivative is that of the second array, in PyTorch half of each
logaddexp
  | logaddexp |
cat concat
  | concatenate(x1, x2, axis=0) | arrays one by one; `axis` is −1 unless it is given, in PyTorch 0
stack
  | stack | arrays one by one
split split_with_sizes chunk tensor_split
  | split | the number of equal pieces or the lengths of all; PyTorch's number is a length
sum
  | sum |
mean
  | mean |
amax
  | max | equal entries share the derivative evenly, in both
amin
  | min | equal entries share the derivative evenly, in both
logsumexp
  | logsumexp |
var
  | var | the divisor is n, in PyTorch n − 1: `correction=1`
std
  | std | the divisor is n, in PyTorch n − 1: `correction=1`; of equal numbers the derivative is 0
norm vector_norm
  | vector_norm | `p` in the place of `ord`; the derivative at 0 is 0, in both
clamp
  | clip | limits are numbers; the derivative at a limit is 0, in PyTorch 1
"""

JAX_NN = """
celu
  | celu |
dot_product_attention
  | attention | axes are [..., head, time, feature], in JAX [..., time, head, feature]; `window=` is `local_window_size`
elu
  | elu |
gelu
  | gelu | the exact form is the default, in JAX the one with tanh
get_scaled_dot_general_config scaled_dot_general scaled_matmul
  | | products of weights of 8 bits or fewer
glu
  | glu |
hard_sigmoid
  | hard_sigmoid |
hard_silu hard_swish
  | hard_swish |
hard_tanh
  | hard_tanh |
identity
  | identity |
initializers
  | initializers | functions of a key and a shape, in both
leaky_relu
  | leaky_relu | the derivative at 0 is `negative_slope`, in JAX 1
log1mexp logmeanexp
  | | no layer: `jn.jacobian` reads the one of JAX
log_sigmoid
  | log_sigmoid |
log_softmax
  | log_softmax | a masked entry counts as −∞
logsumexp
  | logsumexp | `b` and `return_sign` have no counterpart
mish
  | mish |
one_hot
  | one_hot | a label out of range raises ValueError outside of `jit`
relu
  | relu |
relu6
  | relu6 |
selu
  | selu |
sigmoid
  | sigmoid |
silu swish
  | silu |
soft_sign
  | softsign |
softmax
  | softmax | a row that is masked completely gives 0
softplus
  | softplus | `beta` and `threshold`, as in PyTorch
sparse_plus sparse_sigmoid
  | | no layer: `jn.jacobian` reads the one of JAX
squareplus
  | squareplus |
standardize
  | standardize(x, axis=-1) | (x − μ) / max(σ, eps), in JAX (x − μ) / √(σ² + eps); the axis is 0 unless it is given
tanh
  | tanh |
"""

OPTAX = """
binary_dice_loss dice_loss
  | dice(sigmoid(x), t) | probabilities in the place of logits; one term `eps` in the place of `smooth`
convex_kl_divergence generalized_kl_divergence
  | kl_divergence(x, t) | plus Σ p − Σ t, where these are no distributions
cosine_distance
  | 1 - cosine_similarity(x1, x2) |
cosine_similarity
  | cosine_similarity |
ctc_loss ctc_loss_with_forward_probs
  | ctc | lengths in the place of paddings; blank may be any class
hinge_loss
  | hinge | targets are 1 or −1, in both
huber_loss
  | huber | `delta` must be positive
kl_divergence
  | kl_divergence | `axis` may be None
kl_divergence_with_log_targets
  | kl_divergence(x, t, log_targets=True) |
l2_loss
  | squared_error | l2_loss is half of it
log_cosh
  | log_cosh |
make_fenchel_young_loss
  | | makes a loss of any function
multiclass_generalized_dice_loss
  | dice | of each class; no weights of classes
multiclass_hinge_loss
  | multi_class_hinge | adds over all other classes and divides by their number, in optax the worst class alone
multiclass_perceptron_loss
  | | the largest score minus that of the label: `max` and `embedding`
perceptron_loss
  | perceptron | targets are 1 or −1, in both
multiclass_sparsemax_loss
  | sparsemax_loss | classes at the last axis, in both
sparsemax_loss
  | sparsemax_loss | that of optax is binary: here the scores of two classes are 0 and x
ntxent
  | info_nce(normalize(x1), normalize(x2)) | pairs in two arrays in the place of labels
poly_loss_cross_entropy
  | cross_entropy | plus a multiple of 1 − p of the label
ranking_softmax_loss
  | cross_entropy | of scores with relevances as targets
safe_softmax_cross_entropy softmax_cross_entropy
  | cross_entropy | probabilities as targets; a target of 0 with a logit of −∞ adds 0
sigmoid_binary_cross_entropy
  | binary_cross_entropy_with_logits |
sigmoid_focal_loss
  | focal |
smooth_labels
  | cross_entropy(x, t, label_smoothing=…) | an option of the loss
softmax_cross_entropy_with_integer_labels
  | cross_entropy | `axis` and `where` are `axis` and `reduce(y, where=…)`
squared_error
  | squared_error | no broadcasting
triplet_margin_loss
  | triplet | `eps` is added to differences, in optax inside of the norm
"""

ONLY_HERE = {
    "attention_weights", "global_lp_pool", "layer_norm_statistics", "rotary", "sparsemax",
    "conv", "conv_transpose", "diagonal_recurrence", "duplicate", "global_avg_pool", "global_max_pool", "l2_norm",
    "quantile", "swiglu",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """What stands for names of another library: how it is written here, and what differs; or nothing, and why."""

    names: tuple[str, ...]
    ours: str
    differs: str

    @property
    def name(self) -> str:
        """The name of ours without arguments; nothing if there is none."""
        return max(re.findall(r"[a-z]\w*(?=\()", self.ours) or [self.ours], key=len)

    def hint(self) -> str:
        """What an error says of one of the names."""
        if not self.ours:
            return f"jaxnets has no counterpart: {self.differs}"
        return f"jaxnets calls it {self.ours}" if self.ours.isidentifier() else f"in jaxnets write {self.ours}"


def read(table: str) -> tuple[Counterpart, ...]:
    rows = table.strip().replace("\n  |", " |").splitlines()
    cells = ([cell.strip() for cell in row.split("|")] for row in rows)
    return tuple(Counterpart(tuple(names.split()), ours, differs) for names, ours, differs in cells)


COUNTERPARTS = {
    "pytorch": read(PYTORCH),
    "torch": read(TORCH),
    "jax_nn": read(JAX_NN),
    "optax": read(OPTAX),
}


def hint(name: str) -> str:
    """What jaxnets has for a name of another library, as the end of an error, after a semicolon; else nothing."""
    rows = [row for section in COUNTERPARTS.values() for row in section if name in row.names]
    return f"; {rows[0].hint()}" if rows else ""
