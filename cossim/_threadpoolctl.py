"""Makes the thread pool visible to threadpoolctl, whichever of the two is imported first.

threadpoolctl looks through the loaded shared libraries for those that a registered controller knows. The controller has
to be registered before the first look, and threadpoolctl is an extra that `import cossim` must not import. So where it
is not loaded yet, a finder waits on sys.meta_path for its import, adds the registration behind it, and goes away.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder


def register(threadpoolctl):
    class CossimController(threadpoolctl.LibController):
        user_api = "cossim"
        internal_api = "cossim"
        filename_prefixes = ("_core",)
        check_symbols = ("cossim_get_num_threads", "cossim_set_num_threads")

        def get_num_threads(self):
            return self.dynlib.cossim_get_num_threads()

        def set_num_threads(self, num_threads):
            self.dynlib.cossim_set_num_threads(num_threads)

        def get_version(self):
            from cossim._version import __version__

            return __version__

    threadpoolctl.register(CossimController)


class _RegisteringLoader(Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        register(module)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname != "threadpoolctl":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


if "threadpoolctl" in sys.modules:
    register(sys.modules["threadpoolctl"])
else:
    sys.meta_path.insert(0, _Finder())
