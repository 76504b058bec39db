"""Measurements of trained models: likelihoods, the quality of samples, comparisons."""

from .gallery import Gallery as Gallery
from .gallery import gallery_evaluations as gallery_evaluations
from .gallery import make_gallery as make_gallery
from .recognition import Recognition as Recognition
from .recognition import recognise as recognise
