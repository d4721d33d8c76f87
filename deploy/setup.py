"""Make a virtual environment from requirements.lock: `python3 deploy/setup.py [FOLDER]`.

Runs on a bare Python, even one that is too old: what is missing is said in one line with its remedy.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCK = os.path.join(ROOT, "requirements.lock")
OLDEST = (3, 11)


def stop(thing, remedy):
    """End with one clear line."""
    sys.exit("setup: " + thing + ". " + remedy)


def check_python():
    """Everything of the standard library that iotcore and its installation need."""
    if sys.version_info < OLDEST:
        stop(
            "Python %d.%d is too old; iotcore needs %d.%d or newer" % (sys.version_info[:2] + OLDEST),
            "Install a newer one and run `make PYTHON=python3.12 setup`.",
        )
    for module, package in (("venv", "python3-venv"), ("ensurepip", "python3-venv"), ("sqlite3", "python3"), ("ssl", "python3")):
        try:
            __import__(module)
        except ImportError:
            stop("this Python has no module '%s'" % module, "On Debian or Ubuntu: apt-get install %s." % package)
    import sqlite3

    if sqlite3.sqlite_version_info < (3, 35):
        stop("SQLite %s is too old; 3.35 or newer is needed" % sqlite3.sqlite_version, "Install a newer Python.")


def run(*command):
    """Run a command and end with its own message when it fails."""
    if subprocess.call(command, cwd=ROOT) != 0:
        stop("this command failed: " + " ".join(command), "Its reason stands above; mend it and run the same again.")


def works(python):
    """Whether an earlier environment can be used: it may have been left half made, or moved."""
    try:
        return subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def main():
    """Check, make the environment, install what is locked, install iotcore itself."""
    check_python()
    for name in ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"):  # what is compiled here stays beside its package
        os.environ.pop(name, None)
    folder = os.path.join(ROOT, sys.argv[1] if len(sys.argv) > 1 else ".venv")
    python = os.path.join(folder, "bin", "python")
    if not os.access(ROOT, os.W_OK):
        stop("the folder %s cannot be written" % ROOT, "Clone the repository to a folder of your own.")
    if os.path.exists(folder) and not works(python):
        shutil.rmtree(folder)
    print("setup 1/3: virtual environment in %s (Python %s)" % (folder, sys.version.split()[0]), flush=True)
    if not os.path.exists(python):
        run(sys.executable, "-m", "venv", folder)
    print("setup 2/3: locked dependencies, each checked by its hash", flush=True)
    quiet = ["--disable-pip-version-check", "--no-input"]
    run(python, "-m", "pip", "install", "--require-hashes", "--no-deps", "--progress-bar", "on", "-q", "-r", LOCK, *quiet)
    print("setup 3/3: iotcore", flush=True)
    run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-q", "-e", ROOT, *quiet)
    with open(os.path.join(folder, ".ready"), "w") as ready:
        ready.write("made from requirements.lock\n")


if __name__ == "__main__":
    main()
