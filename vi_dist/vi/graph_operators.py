"""Which of ATen's operators a stored graph may consist of: those that compute tensors from tensors, and nothing else.

None of them reads or writes a file, draws from a generator, asks for a value in Python or calls anything by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

_FUNCTIONAL_NAMES = """
__and__ __lshift__ __or__ __rshift__ __xor__ _cdist_forward _conj_physical _fft_c2c _fft_c2r _fft_r2c _linalg_det
_linalg_eigh _linalg_slogdet _linalg_solve_ex _linalg_svd _log_softmax _pdist_forward _softmax _to_copy
_unsafe_index _unsafe_view abs acos acosh add addbmm addcdiv addcmul addmm addmv addr alias all amax amin angle
any arange argmax argmin argsort as_strided asin asinh atan atan2 atanh avg_pool1d avg_pool2d avg_pool3d baddbmm
bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor block_diag bmm bucketize cat
ceil celu cholesky cholesky_inverse cholesky_solve chunk clamp clamp_max clamp_min clip clone complex
conj_physical constant_pad_nd convolution copy copysign cos cosh count_nonzero cross cummax cummin cumprod cumsum
deg2rad detach diag diag_embed diagonal diagonal_copy diagonal_scatter diff digamma dist div dot elu embedding eq
erf erfc erfinv exp exp2 expand expm1 eye fill flatten flip fliplr flipud float_power floor fmax fmin fmod frac
frexp full full_like gather gcd ge gelu ger gt hann_window hardshrink hardsigmoid hardtanh heaviside hypot i0
igamma igammac imag index index_add index_copy index_fill index_put index_select inverse isfinite isin isinf isnan
isneginf isposinf isreal kron kthvalue lcm ldexp le leaky_relu lerp lgamma lift_fresh_copy linalg_cholesky_ex
linalg_cross linalg_det linalg_eigh linalg_householder_product linalg_inv_ex linalg_ldl_factor_ex linalg_ldl_solve
linalg_lu linalg_lu_factor_ex linalg_lu_solve linalg_matrix_exp linalg_pinv linalg_qr linalg_slogdet
linalg_solve_triangular linalg_vector_norm linspace log log10 log1p log2 log_sigmoid_forward logaddexp logaddexp2
logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logspace logsumexp lt lu_unpack
masked_fill masked_scatter matmul max max_pool2d_with_indices maximum mean median min minimum mish mm mode movedim
mul mv mvlgamma nan_to_num nanmedian nansum narrow native_group_norm native_layer_norm ne neg new_full new_ones
new_zeros nextafter norm ones ones_like outer permute pixel_shuffle polygamma positive pow prod quantile rad2deg
ravel real reciprocal relu relu6 remainder repeat repeat_interleave reshape roll rot90 round rsqrt rsub
scalar_tensor scatter scatter_add scatter_reduce searchsorted select select_scatter selu sgn sigmoid sign signbit
silu sin sinc sinh slice slice_scatter softmax softplus softshrink sort special_airy_ai special_bessel_j0
special_bessel_j1 special_bessel_y0 special_bessel_y1 special_entr special_erfcx special_erfinv special_expm1
special_gammainc special_gammaincc special_gammaln special_i0e special_i1 special_i1e special_log_ndtr
special_logit special_logsumexp special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0
special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri special_polygamma special_psi
special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1 special_spherical_bessel_j0 special_xlog1py
special_zeta split split_with_sizes sqrt square squeeze stack std std_mean sub sum swapaxes t take take_along_dim
tan tanh threshold tile topk trace transpose trapezoid triangular_solve tril tril_indices triu triu_indices
true_divide trunc unbind unflatten unfold unfold_copy unsqueeze unsqueeze_copy vander var var_mean vdot view
view_as_complex view_as_real view_copy where xlogy zeros zeros_like
"""
# These write into tensors of the graph itself.
_IN_PLACE_NAMES = """
add_ addcmul_ bitwise_and_ bitwise_left_shift_ bitwise_or_ bitwise_right_shift_ bitwise_xor_ clamp_ copy_ div_ exp_
fill_ index_add_ index_copy_ index_fill_ index_put_ log_ logical_and_ logical_not_ logical_or_ logical_xor_ masked_fill_
masked_scatter_ mul_ neg_ pow_ reciprocal_ scatter_ scatter_add_ sigmoid_ sqrt_ square_ squeeze_ sub_ tanh_ tril_ triu_
unsqueeze_ zero_
"""
# These make tensors that operators of the second kind fill.
_UNFILLED_NAMES = "empty empty_like empty_permuted empty_strided new_empty new_empty_strided"
_FUNCTIONAL = frozenset((*_FUNCTIONAL_NAMES.split(), *_UNFILLED_NAMES.split()))
_IN_PLACE = frozenset(_IN_PLACE_NAMES.split())
_PREFIX = "aten."


def name_of(operator: object) -> str | None:
    """The name ``aten.<operator>.<overload>`` under which an operator is stored; None where it may not be."""
    if not isinstance(operator, OpOverload):
        return None
    name = str(operator)
    try:
        return name if operator_of(name) is operator else None
    except ValueError:
        return None


def operator_of(name: str) -> Callable[..., Any]:
    """The operator of a name that `name_of` gives. Raises `ValueError` for any other name."""
    parts = name.removeprefix(_PREFIX).split(".")
    if name.startswith(_PREFIX) and len(parts) == 2 and (parts[0] in _FUNCTIONAL or parts[0] in _IN_PLACE):
        packet = getattr(torch.ops.aten, parts[0], None)
        if packet is not None and parts[1] in packet.overloads():
            operator: OpOverload = getattr(packet, parts[1])
            if parts[0] in _IN_PLACE or not operator._schema.is_mutable:
                return operator
    raise ValueError(f"{name!r} is not one of the operators that a stored graph may hold")
