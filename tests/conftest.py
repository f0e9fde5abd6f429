"""What every test shares: a disk cache of the run's own, so that counts do not depend on earlier runs."""

import os
import tempfile

# Before jitensor reads its settings, and inherited by the processes that tests start.
os.environ["JITENSOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="jitensor-tests-")


def pytest_unconfigure(config):
    import shutil

    shutil.rmtree(os.environ["JITENSOR_CACHE_DIR"], ignore_errors=True)
