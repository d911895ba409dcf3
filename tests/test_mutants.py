"""Planted mistakes: each must turn its named test red, or the tests would not notice it in earnest.

A mutant changes one place of a copy of labkit and runs one test against the copy, in a process of its own.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """One planted mistake: in `file` of labkit, `old` (found exactly once) becomes `new`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        name="the residual identity is dropped",
        file="links.py",
        old="return torch.add(skip, branch, alpha=scale)",
        new="return scale * branch",
        test="tests/test_links.py::test_dense_lazy_and_autograd_agree",
    ),
    Mutant(
        name="the slope of tanh is taken at its value",
        file="_rules.py",
        old="return value, _scaling(1 - value * value)",
        new="return value, _scaling(1 - torch.tanh(value) ** 2)",
        test="tests/test_links.py::test_dense_lazy_and_autograd_agree",
    ),
    Mutant(
        name="LayerNorm keeps the stretch",
        file="_rules.py",
        old="columns = columns - columns.mean(2, keepdim=True) - unit * (unit.mT @ columns / width)",
        new="columns = columns - columns.mean(2, keepdim=True)",
        test="tests/test_links.py::test_dense_lazy_and_autograd_agree",
    ),
    Mutant(
        name="the product is reversed",
        file="linearization.py",
        old="""        columns = self._as_frame(columns)
        for jac in self._jacobians:""",
        new="""        columns = self._as_frame(columns)
        for jac in reversed(self._jacobians):""",
        test="tests/test_linearization.py::test_dense_push_and_adjoint_are_the_product",
    ),
    Mutant(
        name="prefix and suffix are swapped",
        file="linearization.py",
        old="Linearization([jac.mT for jac in reversed(self._jacobians)])",
        new="Linearization([jac.mT for jac in self._jacobians])",
        test="tests/test_linearization.py::test_prefixes_of_the_adjoint_are_the_suffixes",
    ),
    Mutant(
        name="a slice of a linearization starts one link late",
        file="linearization.py",
        old="return Linearization(self._jacobians[index]) if isinstance(index, slice)",
        new="return Linearization(self._jacobians[index][-1:]) if isinstance(index, slice)",
        test="tests/test_linearization.py::test_slices_and_properties",
    ),
    Mutant(
        name="the metric is divided by the width",
        file="geometry/metric.py",
        old="found[depth] = (frame.mT @ frame).to(lin.dtype)",
        new="found[depth] = (frame.mT @ frame).div(frame.shape[1]).to(lin.dtype)",
        test="tests/geometry/test_metric.py::TestPullback::test_equals_autograd",
    ),
    Mutant(
        name="the metric is that of the outputs, J J^T",
        file="geometry/metric.py",
        old="found[depth] = (frame.mT @ frame).to(lin.dtype)",
        new="found[depth] = (frame @ frame.mT).to(lin.dtype)",
        test="tests/geometry/test_metric.py::TestPullback::test_equals_autograd",
    ),
    Mutant(
        name="semi-axes are singular values instead of their inverses",
        file="geometry/metric.py",
        old="semi_axes = torch.stack([longer, largest.rsqrt() / s], -1)",
        new="semi_axes = 1 / torch.stack([longer, largest.rsqrt() / s], -1)",
        test="tests/geometry/test_metric.py::TestEllipse::test_its_axes_lie_on_it",
    ),
    Mutant(
        name="the spectrum is svdvals of the product",
        file="geometry/spectra.py",
        old="    values = log_singular_values(lin, frame, asked)\n",
        new="    values = torch.linalg.svdvals(lin.dense() @ frame).log()[None]\n",
        test="tests/geometry/test_spectra.py::TestReferenceProducts::test_values_and_error",
    ),
    Mutant(
        name="rank is judged by the product instead of link by link",
        file="geometry/spectra.py",
        old="    values = log_singular_values(lin, frame, asked)\n",
        new="    values = log_singular_values(lin, frame, asked)\n"
        "    values = torch.where(values > values[..., :1] - 36, values, -torch.inf)\n",
        test="tests/geometry/test_spectra_attacks.py::TestNumericalRank::test_a_value_far_below_all_others_is_kept",
    ),
    Mutant(
        name="effective rank weighs squares",
        file="geometry/spectra.py",
        old="    log_p = torch.where(finite, spec.values, -torch.inf)\n",
        new="    log_p = torch.where(finite, 2 * spec.values, -torch.inf)\n",
        test="tests/geometry/test_spectra.py::TestSummaries::test_against_the_values",
    ),
    Mutant(
        name="the error of a spectrum is always zero",
        file="geometry/spectra.py",
        old="        change = _REFOLDS * torch.where(lost, 0.0, change)\n",
        new="        change = 0 * torch.where(lost, 0.0, change)\n",
        test="tests/geometry/test_spectra_attacks.py::test_right_or_covered",
    ),
    Mutant(
        name="a cut is checked without perturbing it",
        file="_cut_checks.py",
        old="    return (0.1 * (rms or 1.0) * draw).to(state.dtype)",
        new="    return (0.0 * (rms or 1.0) * draw).to(state.dtype)",
        test="tests/test_bad_input_cut.py",
    ),
    Mutant(
        name="weights have variance one over the square of the fan-in",
        file="networks/initialization.py",
        old="dtype=torch.float64).div(math.sqrt(n_in))",
        new="dtype=torch.float64).div(n_in)",
        test="tests/networks/test_mlp.py::test_q_follows_its_law_layer_by_layer",
    ),
    Mutant(
        name="the Fisher metric forgets the normaliser",
        file="geometry/fisher.py",
        old="centred = frame - (weights * frame).sum(-2, keepdim=True)",
        new="centred = frame",
        test="tests/geometry/test_fisher.py::test_no_common_shift_of_the_logits_moves_it",
    ),
    Mutant(
        name="a curve's length adds squares",
        file="geometry/geodesics.py",
        old="return lengths.sum(-1) * scale",
        new="return lengths.square().sum(-1) * scale",
        test="tests/geometry/test_geodesics.py::test_a_parabola_against_its_integral",
    ),
    Mutant(
        name="a noisy claim is decided",
        file="lessons/claims.py",
        old="if half > entry.resolution:",
        new="if half > 10 * entry.resolution:",
        test="tests/lessons/test_claims.py::test_outcomes",
    ),
    Mutant(
        name="the half-width is two standard errors",
        file="lessons/claims.py",
        old="half = 4 * float(values.std(ddof=1))",
        new="half = 2 * float(values.std(ddof=1))",
        test="tests/lessons/test_claims.py::test_the_half_width_is_four_standard_errors",
    ),
    Mutant(
        name="a check takes any numbers of the right shape",
        file="lessons/exercise.py",
        old="<= tolerance * scale)",
        new="<= 1e9 * scale)",
        test="tests/lessons/test_checks.py::test_a_wrong_answer_is_told_how",
    ),
    Mutant(
        name="an error inside a finished notebook is overlooked",
        file="press/run.py",
        old='if output.output_type == "error"]',
        new='if output.output_type == "mistake"]',
        test="tests/press/test_run.py::test_what_papermill_calls_completed_is_looked_at",
    ),
    Mutant(
        name="the second derivative of LayerNorm counts its variance twice, not thrice",
        file="_jet_rules.py",
        old="3 * p_i * p_j",
        new="2 * p_i * p_j",
        test="tests/test_jets.py::test_equals_nested_torch_func[layer norm]",
    ),
    Mutant(
        name="a product forgets one of its mixed second derivatives",
        file="_jet_rules.py",
        old="a_i @ b_j + a_j @ b_i",
        new="2 * a_i @ b_j",
        test="tests/test_jets.py::test_equals_nested_torch_func[attention]",
    ),
    Mutant(
        name="the parts of a jet are in reverse order",
        file="jets.py",
        old="second, parts if by_link else None)",
        new="second, parts.flip(0) if by_link else None)",
        test="tests/test_jets.py::test_parts_are_those_of_faa_di_bruno",
    ),
    Mutant(
        name="Gauss' equation pairs the wrong directions",
        file="geometry/curvature.py",
        old="crossed = products.transpose(2, 3)",
        new="crossed = products",
        test="tests/geometry/test_curvature.py::TestClosedForms::test_unit_spheres[3]",
    ),
    Mutant(
        name="curvature keeps the tangent part of second derivatives",
        file="geometry/_frames.py",
        old="return (flat - Q @ (Q.mT @ flat)).reshape(second.shape)",
        new="return flat.reshape(second.shape)",
        test="tests/geometry/test_curvature.py::TestClosedForms::test_a_chart_of_space_is_flat",
    ),
    Mutant(
        name="a form is moved into the frame by the wrong transpose",
        file="geometry/_frames.py",
        old="return inverse.mT @ form @ inverse",
        new="return inverse @ form @ inverse.mT",
        test="tests/geometry/test_curvature.py::TestIdentities::test_contractions",
    ),
    Mutant(
        name="the root of a categorical Fisher forgets the normaliser",
        file="geometry/_likelihoods.py",
        old="return part - log_p.exp() * part.sum(-1, keepdim=True)",
        new="return part",
        test="tests/geometry/test_fisher_models.py::test_no_common_shift_of_the_logits_moves_it",
    ),
    Mutant(
        name="the Fisher matrix is divided by the square of the batch",
        file="geometry/_score_rows.py",
        old="rows.flatten(0, 1) / math.sqrt(len(self.x))",
        new="rows.flatten(0, 1) / len(self.x)",
        test="tests/geometry/test_fisher_parameters.py::TestClosedForms::test_gaussian_regression[0.25]",
    ),
    Mutant(
        name="conjugate gradients trust a Fisher matrix without damping",
        file="geometry/_score_products.py",
        old="if n < P or _conjugate_gradients(R, probe, 0.0, goal, lost, progress)[1] > goal:",
        new="if n < P:",
        test="tests/geometry/test_fisher_iterative.py::TestRefusals::test_a_singular_matrix_without_damping[symmetric-0.001]",
    ),
    Mutant(
        name="rank is judged by the parameters' dtype alone",
        file="geometry/_score_rows.py",
        old="max(torch.finfo(self.own_dtype).eps, noise)",
        new="torch.finfo(self.own_dtype).eps",
        test="tests/geometry/test_fisher_models.py::test_rank_of_a_model_that_computes_in_a_shorter_dtype[inner0]",
    ),
    Mutant(
        name="a block of Lanczos is not kept from the basis",
        file="_lanczos.py",
        old="block, _ = qr(block - V @ (V.mT @ block))",
        new="block, _ = qr(block)",
        test="tests/test_lanczos.py::test_matrices[120-90-5]",
    ),
    Mutant(
        name="the residual is assumed and not measured",
        file="_lanczos.py",
        old="residual = column_norms(J.pull(U) - right * s[..., None, :]) + rounding",
        new="residual = rounding.expand_as(s)",
        test="tests/test_lanczos.py::test_wrong_adjoint_shows_in_the_residual",
    ),
    Mutant(
        name="Hutch++ samples what it has sketched",
        file="_quadrature.py",
        old="forms(rest - Q @ (Q.mT @ rest))",
        new="forms(rest)",
        test="tests/geometry/test_matrix_free.py::TestTraces::test_exact_where_the_sketch_holds_the_range",
    ),
    Mutant(
        name="values that are zero by size are not counted",
        file="geometry/_densities.py",
        old="share = rule.size / operator.shape[-1]",
        new="share = 1.0",
        test="tests/geometry/test_matrix_free.py::TestDensity::test_integrates_to_one_and_counts_zeros[wide]",
    ),
    Mutant(
        name="the spread of the digammas is left out of the variance",
        file="theory/_chi_products.py",
        old="self.weights @ (trigamma + (values - mean).square())",
        new="self.weights @ trigamma",
        test="tests/theory/test_finite_width.py::TestReference::test_single_layers",
    ),
    Mutant(
        name="the series of a distribution runs backwards",
        file="theory/_chi_products.py",
        old="return angles.sin() @ over.real - angles.cos() @ over.imag - at_start",
        new="return angles.sin() @ over.real + angles.cos() @ over.imag - at_start",
        test="tests/theory/test_finite_width.py::TestDistribution::test_one_layer_is_a_mixture_of_chi_squares",
    ),
    Mutant(
        name="the covariance of tokens keeps their mean",
        file="theory/attention.py",
        old="centred = residual - (weights * residual).sum(1, keepdim=True)",
        new="centred = residual",
        test="tests/theory/test_attention.py::TestNearRankOne::test_a_large_common_token_may_tilt_the_weights",
    ),
    Mutant(
        name="exponential integrals cancel on a short way",
        file="theory/_token_flow.py",
        old="short = way * np.maximum(beta, 1) <= 1",
        new="short = way < 0",
        test="tests/theory/test_attention.py::TestClustering::test_short_times_do_not_cancel",
    ),
    Mutant(
        name="the scalar curvature has the prefactor 3",
        file="theory/shallow.py",
        old="profile.first * radial + 4 * bend)",
        new="profile.first * radial + 3 * bend)",
        test="tests/theory/test_shallow.py::TestReference::test_erf",
    ),
    Mutant(
        name="a shot differentiates as if its acceleration were the same everywhere",
        file="geometry/_implicit.py",
        old="self.accelerations[here] + turned]",
        new="self.accelerations[here] + 0 * turned]",
        test="tests/geometry/test_connecting.py::TestDerivatives::"
        "test_of_shots_against_the_exponential_map_of_the_sphere",
    ),
    Mutant(
        name="the implicit function theorem loses its minus sign",
        file="geometry/_implicit.py",
        old="inner.detach() - factor.solve(slope)",
        new="inner.detach() + factor.solve(slope)",
        test="tests/geometry/test_connecting.py::TestDerivatives::test_in_a_plane_that_moves_with_its_ends",
    ),
    Mutant(
        name="the polar factor is iterated with an inverse that is not transposed",
        file="geometry/_tangents.py",
        old="(X + torch.linalg.inv(X).mT) / 2",
        new="(X + torch.linalg.inv(X)) / 2",
        test="tests/geometry/test_connecting.py::TestTransport::test_around_a_parallel_with_the_square_of_the_spacing",
    ),
    Mutant(
        name="a saddle of the energy passes for a minimum",
        file="geometry/_connecting.py",
        old="torch.full_like(length, -_THIN * torch.finfo(x0.dtype).eps)",
        new="torch.full_like(length, 1.0)",
        test="tests/geometry/test_connecting.py::TestDerivatives::test_where_there_are_none_backward_says_so",
    ),
    Mutant(
        name="curvatures of layers add whatever the slopes",
        file="theory/kernel_jets.py",
        old="gamma_tot.append(_times(gamma, chi_tot[-1] ** 2) + _times(gamma_tot[-1], chi))",
        new="gamma_tot.append(gamma + gamma_tot[-1])",
        test="tests/theory/test_kernel_jets.py::TestKnownValues::test_away_from_criticality_the_gammas_do_not_add",
    ),
    Mutant(
        name="skip and branch are correlated",
        file="theory/_kernel_layers.py",
        old="return branch if self.alpha2 is None else entering + self.alpha2 * branch",
        new="return branch if self.alpha2 is None else entering + self.alpha2.sqrt() * branch",
        test="tests/theory/test_kernel_jets.py::TestAgainstClosedKernels::test_cosines",
    ),
    Mutant(
        name="the upper bound of merging forgets C(0)",
        file="theory/merging.py",
        old="most / chi + gamma / (2 * chi * (1 - p))",
        new="most / chi + gamma / (2 * chi)",
        test="tests/theory/test_merging.py::TestBounds::test_at_chi_one_they_are_sums",
    ),
    Mutant(
        name="a circle turns without its own turn",
        file="theory/great_sphere.py",
        old="return 2 * (3 * jet.gamma_tot / jet.chi_tot + 1).sqrt()",
        new="return 2 * (3 * jet.gamma_tot / jet.chi_tot).sqrt()",
        test="tests/theory/test_great_sphere.py::TestForms::test_counts",
    ),
    Mutant(
        name="the mean of an activation does not pile up",
        file="theory/residual.py",
        old="return (q_next, c_next, mean + drift), alpha**2 * w * slope",
        new="return (q_next, c_next, mean), alpha**2 * w * slope",
        test="tests/theory/test_residual.py::TestPath::test_the_mean_of_an_activation_that_is_not_odd_piles_up",
    ),
    Mutant(
        name="the torus forgets half of a product of sines",
        file="geometry/surfaces.py",
        old='{"cos u": ring, "cos u+v": half, "cos u-v": half}',
        new='{"cos u": ring, "cos u+v": tube}',
        test="tests/geometry/test_surfaces.py::test_it_is_the_surface_of_the_textbook[torus]",
    ),
    Mutant(
        name="the subspace of a sphere is not orthonormal",
        file="geometry/surfaces.py",
        old="frame, _ = qr(torch.randn(n, 3, dtype=torch.float64, generator=draw))",
        new="frame = torch.randn(n, 3, dtype=torch.float64, generator=draw)",
        test="tests/geometry/test_surfaces.py::test_in_more_dimensions_it_is_as_round_and_elsewhere",
    ),
    Mutant(
        name="a bill's own terms pass for its shares",
        file="plots/bending.py",
        old="rows, own = entries.sum(1), entries.diagonal()",
        new="rows, own = entries.diagonal(), entries.diagonal()",
        test="tests/plots/test_bending.py::test_the_foot_of_a_bill_has_both_sums",
    ),
    Mutant(
        name="the slope of the length map forgets the length",
        file="theory/_fixed_points.py",
        old="return mean, slope / q",
        new="return mean, slope",
        test="tests/theory/test_meanfield.py::TestReference",
    ),
    Mutant(
        name="unstable lengths count as stable",
        file="theory/_fixed_points.py",
        old="stable = ~rising & ~touch & (slope > -1 + _CRITICAL)",
        new="stable = ~touch & (slope > -1 + _CRITICAL)",
        test="tests/theory/test_meanfield.py::TestLimits::test_gelu_has_a_basin",
    ),
    Mutant(
        name="fixed lengths are constants to autograd",
        file="theory/_fixed_points.py",
        old="return torch.where(moves, safe + (new - new.detach()), q)",
        new="return q",
        test="tests/theory/test_meanfield.py::TestDerivatives",
    ),
    Mutant(
        name="panels do not end at kinks",
        file="theory/_gaussian.py",
        old="places = kinks or ((0.0,) if root**2 > _LARGE else ())",
        new="places = (0.0,) if root**2 > _LARGE else ()",
        test="tests/theory/test_gaussian.py::test_closed_forms",
    ),
    Mutant(
        name="a list of numbers passes through float32",
        file="theory/_arguments.py",
        old='dtype=None if hasattr(value, "dtype") else torch.float64',
        new="dtype=None",
        test="tests/theory/test_arguments.py::test_no_digit_is_lost",
    ),
    Mutant(
        name="Gaussian weights add nothing to the variance of a spectral law",
        file="theory/_spectral_forms.py",
        old="/ mean**2 + self.gaussian)",
        new="/ mean**2)",
        test="tests/theory/test_free_probability.py::TestClosedForms::test_quarter_circle_and_marchenko_pastur",
    ),
    Mutant(
        name="the density of s is that of its square",
        file="theory/free_probability.py",
        old="return 1 if self.squared else 2",
        new="return 1",
        test="tests/theory/test_free_probability.py::TestClosedForms::test_quarter_circle_and_marchenko_pastur",
    ),
    Mutant(
        name="an atom of a spectral law decays with depth as a product",
        file="theory/_spectral_forms.py",
        old="self.depth * p - (self.depth - 1))",
        new="p**self.depth)",
        test="tests/theory/test_free_probability.py::TestReference::test_chains_of_slopes_0_and_1",
    ),
    Mutant(
        name="poles beside a panel of slopes are not made good",
        file="theory/_spectral_poles.py",
        old="return torch.where(inside, value, 0.0), torch.where(inside, slope, 0.0)",
        new="return torch.zeros_like(value), torch.zeros_like(slope)",
        test="tests/theory/test_free_probability.py::TestEveryLaw::test_a_thin_tail_is_smooth",
    ),
    Mutant(
        name="pictures turn the wrong way round",
        file="networks/actions.py",
        old="(lift.mT - lift)",
        new="(lift - lift.mT)",
        test="tests/networks/test_actions.py::test_a_blob_turns_counter_clockwise_as_shown",
    ),
    Mutant(
        name="an invariant that turns",
        file="networks/symmetric.py",
        old="a[:, i] * b[:, j] - b[:, i] * a[:, j]",
        new="a[:, i] * b[:, j] + b[:, i] * a[:, j]",
        test="tests/networks/test_symmetric.py::TestLinks::test_invariants_do_not_change_along_an_orbit",
    ),
    Mutant(
        name="a midpoint that is an end",
        file="geometry/null_curves.py",
        old="velocity(at + h / 2 * v)",
        new="velocity(at + h * v)",
        test="tests/geometry/test_null_curves.py::TestNullCurve::test_on_a_circle_it_has_its_closed_form",
    ),
    Mutant(
        name="relative stretch of plain means",
        file="geometry/sensitivity.py",
        old="(asked.square().mean() / others.square().mean()).sqrt()",
        new="asked.mean() / others.mean()",
        test="tests/geometry/test_sensitivity.py::test_relative_is_a_quotient_of_root_mean_squares",
    ),
    Mutant(
        name="augmentation that goes on after training",
        file="training/augmentation.py",
        old="if not self.training or not self.reach:",
        new="if not self.reach:",
        test="tests/training/test_augmentation.py::test_the_same_seed_moves_alike_and_eval_is_the_identity",
    ),
    Mutant(
        name="descent beside a minimum goes uphill",
        file="training/descent.py",
        old="p.sub_(float(lr) * gradient)",
        new="p.add_(float(lr) * gradient)",
        test="tests/training/test_descent.py::test_a_linear_model_follows_its_eigenvalues",
    ),
    Mutant(
        name="the squared loss loses its half",
        file="training/descent.py",
        old=".sum(1).mean() / 2",
        new=".sum(1).mean()",
        test="tests/training/test_descent.py::test_a_linear_model_follows_its_eigenvalues",
    ),
    Mutant(
        name="inputs on the sphere have norm one",
        file="training/random_inputs.py",
        old=".mul(width**0.5)",
        new="",
        test="tests/training/test_random_inputs.py::test_every_input_has_mean_square_one_and_the_seed_decides",
    ),
    Mutant(
        name="every parameter begins where theta begins",
        file="training/parameters.py",
        old="begin += p.numel()",
        new="begin += 0",
        test="tests/training/test_parameters.py::test_it_is_another_model_at_theta_and_the_first_stays",
    ),
    Mutant(
        name="zeros of a spectrum are counted one short",
        file="plots/eigenvalues.py",
        old="{total - rank:,} are zero",
        new="{total - rank - 1:,} are zero",
        test="tests/plots/test_eigenvalues.py::test_eigenvalues_stand_at_their_numbers_and_the_zeros_are_counted",
    ),
    Mutant(
        name="a geometric mean whose bar is not one of factors",
        file="plots/_measured.py",
        old="np.stack([1 - np.exp(-half), np.exp(half) - 1])",
        new="np.stack([half, half])",
        test="tests/plots/test_measured.py::test_units_move_a_geometric_mean_and_leave_the_length_of_its_bar",
    ),
    Mutant(
        name="a circle that turns right",
        file="geometry/planes.py",
        old="radius * torch.stack([angle.cos(), angle.sin()], dim=1)",
        new="radius * torch.stack([angle.cos(), -angle.sin()], dim=1)",
        test="tests/geometry/test_planes.py::test_a_circle_of_four_points_has_them_on_the_axes_turning_left",
    ),
    Mutant(
        name="siblings whose biases are not scaled",
        file="networks/siblings.py",
        old="nn.Parameter(sigma_b * linear.bias.detach()",
        new="nn.Parameter(linear.bias.detach()",
        test="tests/networks/test_siblings.py::test_each_is_the_network_of_its_seed_to_rounding",
    ),
    Mutant(
        name="a phase called by a word that its number denies",
        file="lessons/explorers/A4.py",
        old='return f"{name}, barely" if near else name',
        new="return name",
        test="tests/lessons/test_explorers_A4.py::test_near_the_edge_the_word_is_hedged",
    ),
    Mutant(
        name="a bracket of correlations ends at one, where no step leads away",
        file="theory/_correlations.py",
        old="start = start.clamp(max=_BELOW_ONE)",
        new="start = start.clamp(max=1.0)",
        test="tests/theory/test_meanfield.py::test_kinked_networks_just_beyond_criticality_settle_below_one",
    ),
]

pytestmark = [pytest.mark.mutant, pytest.mark.timeout(600)]  # on a busy machine the healthy run takes minutes


def _copy(folder: Path) -> Path:
    """A copy of the package in `folder`, with the data beside it as in a checkout."""
    shutil.copytree(ROOT / "labkit", folder / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def _run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the labkit in `folder`: `python -m` puts the current folder first."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    places = [str(ROOT / test) for test in tests]
    return subprocess.run(
        [*command, *places], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )  # fmt: skip


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All named tests pass on a copy without a mistake, and run against that copy."""
    folder = _copy(tmp_path_factory.mktemp("healthy"))
    done = _run(folder, *sorted({mutant.test for mutant in MUTANTS}))
    assert done.returncode == 0, done.stdout[-3000:]
    where = [sys.executable, "-c", "import labkit; print(labkit.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(folder)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    path = _copy(tmp_path) / "labkit" / mutant.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.file} has {mutant.old!r} {text.count(mutant.old)} times, not once"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    done = _run(tmp_path, mutant.test)
    assert done.returncode == 1, f"{mutant.test} stayed green:\n{done.stdout[-2000:]}"
