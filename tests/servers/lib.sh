# Shared by the scripts of this folder: source it, do not run it.

export PG2OS_DEV_HOME=${PG2OS_DEV_HOME:-/var/tmp/pg2os-dev}
PGBIN=${PGBIN:-/usr/lib/postgresql/15/bin}
PSQL=${PSQL:-/usr/lib/postgresql/15/bin/psql}   # serves newer servers, too: their folder may hold no client
OPENSEARCH_VERSION=${OPENSEARCH_VERSION:-2.19.6}
servers=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# The comment at the top of the calling script is its usage text.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# own_by USER FOLDER: gives the folder to USER and fills the array `as` with the prefix that runs a command as USER. Both
# servers refuse to run as root; who is not root runs them under the own account.
own_by() {
  as=(env)
  [ "$(id -u)" = 0 ] || return 0
  as=(setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups env HOME=/tmp)
  chown -R "$1:" "$2"
  "${as[@]}" test -r "$2" || die "user $1 cannot reach $2: choose a folder that every user can enter (not below /root)"
}

# runs PID TEXT: PID is a live process with TEXT in its command line. (A zombie's is empty, and a process that was
# given the same number later has another one.)
runs() { [ -n "$1" ] && { tr '\0' ' ' < "/proc/$1/cmdline"; } 2> /dev/null | grep -qF -- "$2"; }

# retry SECONDS COMMAND ...: repeats COMMAND until it succeeds or the time is over.
retry() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

# free_port: a port of 127.0.0.1, below the range from which the kernel takes the ports of outgoing connections, so that none
# of them can come between.
free_port() {
  local port
  while port=$((RANDOM % 12000 + 20000)); (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do :; done
  echo "$port"
}
