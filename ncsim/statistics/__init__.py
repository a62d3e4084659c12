"""Numbers from counts.

Pure functions of joint counts and of stored records. `chsh` has S and what stands beside it; `intervals` and `bootstrap` say how sure it is;
`protocols` gives the law of S under a restart protocol; the other files are tests and measures by their names.

Decisions
---------
Sensing is of an observer. AUC and bits are those of a logistic regression on stated features, from members that it was
not trained on: a better observer may sense more. A member gives a trace of either class, so errors are of members (Obuchowski).

Restart protocols are weights on stored networks (`statistics/protocols.py`): a run under a protocol ends, in each context, with
one of the networks that the ensemble has, and the protocol only changes how likely each is. Laws are convolutions on the
lattice of S; nothing is trained again.

Intervals of what is computed from an ensemble: a delete-a-group jackknife over members for means, and for
probabilities Clopper-Pearson at the effective number of runs (Korn and Graubard), both widened by what an ensemble of
this size cannot show: an outcome that none of its M networks has, met by a run that looks at K of them.

A report is of tallies (`tally.py`): members by table of counts and group of the jackknife, and by S and Delta, whole numbers that
merge by addition. Best-of-K by loss alone hangs on an order. It is sorted once, as far as K tries look, and the laws with each group left out
are read off it together (`loss_order.py`). What results is as large for 10^8 members as for 10^4 and is kept (`cell.py`). Training is told
from such sums at each recorded step (`trajectory_tally.py`); products of S at any two steps give mu_gradS of any window.

A run that is to be precise (`--until`) ends by a rule in stages (`stopping.py`): Stein's, whose last size is set by an error that was
estimated once and not chosen among several looks. A confidence sequence may be looked at at any time, for 2.4 times the members; to stop
at the first interval that is short enough holds less often than it says, since the jackknife's error is of 32 groups.

Levels of the NPA hierarchy are made here and solved by cvxpy and Clarabel: toqito 1.1.8 has looser ones under the same names,
and takes two parties alone (`findings/toqito_npa_levels.sh`).

A probability that is too small for a float is 0, also where the user has NumPy raise of that (`np.seterr(all="raise")`): functions that meet
such numbers say so by `np.errstate(under="ignore")`. Overflows, divisions by 0 and NaN are errors in the tests, and so none of theirs.

`chsh_statistics` outside `jit` computes in float64 and gives NumPy arrays, so that counts of 10^12 are exact to 1e-6
without the user switching 64-bit types on; inside a caller's `jit` it follows the caller's types.
"""
