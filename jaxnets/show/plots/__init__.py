"""Pictures of data, networks, training and Jacobians: functions from arrays to matplotlib figures, and files of them.

`figures` holds what all of them share, `planar` draws points and regions of the plane, `training` what a training gave,
`jacobians` Jacobians, `spectra` eigenvalues, and `graphs` the graphs of functions.
"""

from .figures import COLOURS as COLOURS
from .figures import LINES as LINES
from .figures import MARKERS as MARKERS
from .figures import STYLE as STYLE
from .figures import save as save
from .figures import save_animation as save_animation
from .graphs import graph as graph
from .jacobians import jacobian as jacobian
from .planar import CORNERS as CORNERS
from .planar import clouds as clouds
from .planar import decision_regions as decision_regions
from .planar import draw_regions as draw_regions
from .planar import draw_stretched as draw_stretched
from .planar import plane as plane
from .planar import points as points
from .planar import position_colours as position_colours
from .planar import regions as regions
from .spectra import spectrum as spectrum
from .training import calibration as calibration
from .training import confusion as confusion
from .training import ensemble as ensemble
from .training import learning_curves as learning_curves
from .training import mistakes as mistakes
from .training import variance as variance
