"""Runs a Python script as `python SCRIPT ARGUMENTS…` does, and tells when only the interpreter's own end is left.

    python until_end.py FD SCRIPT ARGUMENTS…

FD is a pipe's, which gets a byte then, if the script has ended well. In that last moment threads of PyTorch's now and then
abort the process ("terminate called without an active exception"), when all that the script had to do is done. Standard
library only: it runs as a script.
"""


def run() -> None:
    import atexit  # all names are this function's own, as the script gets the module's
    import builtins
    import os
    import sys
    from importlib.machinery import SourceFileLoader

    told, arguments, process, well = int(sys.argv[1]), sys.argv[2:], os.getpid(), False
    path = os.path.abspath(arguments[0])

    def tell() -> None:
        if well and os.getpid() == process:
            os.write(told, b".")

    atexit.register(tell)  # the first to be registered is the last to be called
    sys.argv = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(path)
    loader = SourceFileLoader("__main__", path)
    module = globals()
    module.clear()
    module.update(__name__="__main__", __file__=path, __loader__=loader, __builtins__=builtins, __annotations__={})
    module.update(dict.fromkeys(("__doc__", "__package__", "__spec__", "__cached__")))
    try:
        exec(compile(loader.get_data(path), path, "exec", dont_inherit=True), module)
        well = True
    except SystemExit as leaving:
        well = not leaving.code
        raise
    except Exception as error:  # a script may raise anything
        trace = error.__traceback__.tb_next if error.__traceback__ else None  # as if this file were not there
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


if __name__ == "__main__":
    run()
