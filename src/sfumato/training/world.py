"""The processes that train together."""

from sfumato.world import ALONE as ALONE
from sfumato.world import TIMEOUT as TIMEOUT
from sfumato.world import LostProcessError as LostProcessError
from sfumato.world import World as World
from sfumato.world import joined as joined
