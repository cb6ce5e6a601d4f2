"""What people see of Jacobians: tables, comparisons, pictures, and what is wrong with a rule of their own.

`local_jacobians` reads a function, of which `one_step` keeps one step of every loop and `chains` the longest path, and
`tabulate` shows its layers.  `compare` compares its Jacobians with autodiff, `explain` shows in which order they are
multiplied, and `check` names what is wrong with a rule.  `diagram` and `layout` lay out the graph that `plots` draws with
matplotlib.  `html` and `formats` serve all of them.
"""

from .check import check_rule as check_rule
from .compare import compare as compare
from .explain import explain_plan as explain_plan
from .tabulate import tabulate as tabulate
