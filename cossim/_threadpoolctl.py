"""Registers cossim's thread pool with threadpoolctl, regardless of which of the two is imported first.

threadpoolctl inspects the loaded shared libraries and keeps those that match a registered controller. It is an optional
dependency, which `import cossim` must not import. If threadpoolctl is not loaded yet, a finder on sys.meta_path waits
for its import and registers the controller after it.
"""

import sys


def register(threadpoolctl):
    if not hasattr(threadpoolctl, "register"):  # threadpoolctl before 3.3
        return

    class CossimController(threadpoolctl.LibController):
        user_api = "cossim"
        internal_api = "cossim"
        filename_prefixes = ("_core",)  # other packages have a _core too; check_symbols excludes them
        check_symbols = ("cossim_get_num_threads", "cossim_set_num_threads")

        def get_num_threads(self):
            return self.dynlib.cossim_get_num_threads()

        def set_num_threads(self, num_threads):
            self.dynlib.cossim_set_num_threads(num_threads)

        def get_version(self):
            from cossim._version import __version__

            return __version__

    threadpoolctl.register(CossimController)


class _RegisterOnImport:
    def find_spec(self, name, path=None, target=None):
        if name != "threadpoolctl":
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._add_registration(spec.loader)
        return spec

    def _add_registration(self, loader):
        # Wraps this one method. A loader class of our own would need every method that inspect and runpy call.
        load_module = loader.exec_module

        def exec_module(module):
            load_module(module)
            register(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        loader.exec_module = exec_module


def _loaded_threadpoolctl():
    main = sys.modules.get("__main__")
    if getattr(getattr(main, "__spec__", None), "name", None) == "threadpoolctl":
        return main  # python -m threadpoolctl -i cossim
    return sys.modules.get("threadpoolctl")


if _loaded_threadpoolctl():
    register(_loaded_threadpoolctl())
else:
    sys.meta_path.insert(0, _RegisterOnImport())
