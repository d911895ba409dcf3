#!/usr/bin/env bash
# Makes or mends the Python environment in $VENV, called by every make target: scripts/setup.sh [chromium] [libatomic1]
# (what the target would like besides). Does nothing when all is in place; else says in one sentence what is in the way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${VENV:-.venv} ready=${VENV:-.venv}/.ready log=${VENV:-.venv}/setup.log python=""
needed_mb=3000
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }
stop() { say "$*" && exit 1; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
suits() { case $1 in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac }
free_mb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }
fingerprint() { { sed '/^\[tool\./,$d' pyproject.toml && cat requirements/lock.txt; } | cksum; }

is_ready() { # the stamp names this folder and these requirements, and PYTHON, where given, is the one built with
  [[ -x $venv/bin/python && -f $ready && $(<"$ready") == "$PWD"$'\n'"$(fingerprint)" ]] &&
    [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$venv/bin/python")" ]]
}

find_python() { # sets $python, or leaves it empty where the machine has none at all
  local name found="" names=(python3 python3.13 python3.12 python3.11)
  [[ -z ${PYTHON:-} ]] || names=("$PYTHON")
  for name in "${names[@]}"; do
    if suits "$(version_of "$name")"; then python=$name && return; fi
    found=${found:-$(version_of "$name")}
  done
  [[ ! $found ]] || stop "${PYTHON:-python3} is Python $found, but Python 3.11, 3.12 or 3.13 is needed: install one and name it, as in 'make test PYTHON=python3.12'."
  [[ -z ${PYTHON:-} ]] || stop "PYTHON=$PYTHON does not run: name a Python 3.11, 3.12 or 3.13, as in 'make test PYTHON=python3.12'."
}

lacking() { # those of the Debian packages "$@" that are missing
  local package
  for package; do
    case $package in
      python3) [[ $python ]] ;;
      python3*-venv) [[ $python ]] && "$python" -c 'import ensurepip' ;;
      chromium) [[ $(uname) != Linux ]] || type -P chromium || type -P chromium-browser || type -P google-chrome ;;
      libatomic1) [[ $(uname) != Linux ]] || "${python:-false}" -c 'import ctypes; ctypes.CDLL("libatomic.so.1")' ;;
    esac &>/dev/null || printf '%s ' "$package"
  done
}

provide() { # the Debian packages "$@": installed for root, else named in one line to paste
  local -x DEBIAN_FRONTEND=noninteractive
  if ! type -P apt-get >/dev/null; then
    say "This machine lacks what Debian calls $*: install it with your system's package manager."
  elif ((EUID == 0)); then
    say "Installing $*"
    apt-get install -y -qq "$@" &>/dev/null || { apt-get update -qq && apt-get install -y -qq "$@" >/dev/null; } ||
      stop "apt-get could not install $*: see its message above, and repeat the command when that is mended."
  else
    say "This machine lacks $*. As root:" && say "" && say "    apt-get install $*" && say ""
  fi
}

progress() { # pip's talk as one moving line, or a line now and then where nobody watches
  local count=0 line
  while IFS= read -r line; do
    case $line in
      Collecting\ * | Processing\ *)
        count=$((count + 1)) line=${line#* }
        if [[ -t 2 ]]; then printf '\r\033[K  %3d packages found: %s' "$count" "$(basename "${line%%[<>=;(!~ ]*}")" >&2
        elif ((count % 50 == 0)); then say "  $count packages found"; fi ;;
      Installing\ collected*) [[ ! -t 2 ]] || printf '\r\033[K' >&2; say "  installing $count packages" ;;
    esac
  done
}

explain() { # why pip failed
  if (($(free_mb "$venv") < 100)) || grep -q "No space left" "$log"; then
    local here temporary
    here=$(free_mb "$venv") temporary=$(free_mb "${TMPDIR:-/tmp}")
    [[ -f $ready ]] || rm -rf "$venv"
    stop "The disk is full ($here MB left here, $temporary MB in ${TMPDIR:-/tmp}): make room for $needed_mb MB and repeat the command."
  fi
  grep -E 'ERROR:' "$log" | tail -n 1 >&2 || tail -n 5 "$log" >&2
  if grep -qE "Connection|Temporary failure|Max retries|No matching distribution" "$log"; then
    stop "pip could not get a package: check the network, or pip's proxy and index settings, and repeat the command."
  fi
  stop "pip failed; its whole output is in $log. Repeating the command starts set-up afresh."
}

build() {
  local start=$SECONDS
  [[ -w . ]] || stop "The folder $PWD cannot be written: copy the project to one that can."
  mkdir -p "$venv"
  trap 'rm -f "$ready"; say ""; say "Set-up was interrupted; the next call starts it afresh."; exit 130' INT TERM
  if [[ -f $ready && $(head -n 1 "$ready") == "$PWD" && $(version_of "$venv/bin/python") == "$(version_of "$python")" ]]; then
    say "Bringing the environment in $venv up to date"
  else
    [[ -f $venv/pyvenv.cfg || -z $(ls -A "$venv") ]] || stop "VENV=$venv is a folder with other things in it: name a new one."
    rm -f "$ready"
    (($(free_mb "$venv") >= needed_mb)) || stop "The environment needs $needed_mb MB and the disk has $(free_mb "$venv") MB left: make room and repeat the command."
    say "Making the environment in $venv with $python (Python $(version_of "$python")); this happens once"
    "$python" -m venv --clear "$venv" || stop "$python could not make a virtual environment in $venv: see its message above."
  fi
  "$venv/bin/python" -m pip install --no-input --progress-bar off -c requirements/lock.txt -e '.[all]' 2>&1 |
    tee "$log" | progress || explain
  # Beside a CPU build of torch the ordinary torchvision cannot load, and takes transformers down with it.
  if "$venv/bin/python" -m pip show -q torchvision 2>/dev/null && ! "$venv/bin/python" -c "import torchvision" &>/dev/null; then
    "$venv/bin/python" -m pip uninstall -qy torchvision
  fi
  mkdir -p "$venv/var" # what Jupyter, IPython and matplotlib write goes here, not to HOME
  printf '%s\n' "$PWD" "$(fingerprint)" >"$ready"
  say "The environment is ready after $((SECONDS - start)) s"
}

needs=""
if is_ready; then
  python=$venv/bin/python
else
  find_python
  needs="python3 python3-venv"
  [[ ! ${PYTHON:-} =~ (python3\.[0-9]+)$ ]] || needs="python3 ${BASH_REMATCH[1]}-venv"
fi
missing=$(lacking $needs "$@")
[[ ! $missing ]] || provide $missing
[[ $python ]] || find_python
[[ -z $(lacking $needs) ]] || exit 1
is_ready || build
