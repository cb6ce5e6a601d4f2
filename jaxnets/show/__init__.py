"""What people see of Jacobians, and of their own.

`tabulate` shows every layer of a function, `compare` holds its Jacobians against autodiff, `explain` prints the order of
products, `check` names what is wrong with a rule.  `diagram` is the graph that `plots` draws with matplotlib; `html` and
`formats` are shared by all of them.
"""

from .check import check_rule as check_rule
from .compare import compare as compare
from .explain import explain_plan as explain_plan
from .tabulate import tabulate as tabulate
