"""What tests of Penstock and of its adapters share. Its parts are imported one by one.

Some of them need the extra ``test``, so this door opens none of them by itself.
"""

from __future__ import annotations
