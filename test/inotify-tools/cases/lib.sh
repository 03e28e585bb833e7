# What the cases share: start a watcher, wait until it has seen what it should, end it, show all that it printed.
# The runner gives the commands INOTIFYWAIT, INOTIFYWATCH, FSNOTIFYWAIT (use them unquoted) and SCRATCH, a directory
# outside of the case's own. Nothing here may depend on how fast the machine or the watcher is.

out=$SCRATCH/out
err=$SCRATCH/err
stdin=/dev/null
watcher=
daemon=
trap 'for pid in $watcher $daemon $(holders "$PWD/log"); do kill -KILL $(family "$pid") 2>/dev/null; done' EXIT

# Exit code 99 tells the runner that the case itself went wrong.
give_up() {
  echo "gave up waiting until $1"
  code=none
  show
  exit 99
}

until_true() { # WHAT COMMAND...: polls; 20 s are for a loaded machine
  what=$1
  tries=0
  shift
  until "$@"; do
    tries=$((tries + 1))
    [ "$tries" -lt 800 ] || give_up "$what"
    sleep 0.025
  done
}

# --- its processes

family() { # PID: it and all below it
  [ -d "/proc/$1" ] && echo "$1"
  for child in $(cat "/proc/$1"/task/*/children 2>/dev/null); do family "$child"; done
}

all_threads_are() { # PID STATES
  for stat in $(family "$1" | sed 's|.*|/proc/&/task/*/stat|'); do
    { read -r line <"$stat"; } 2>/dev/null || continue
    line=${line##*) }
    case ${line%% *} in [$2]) ;; *) return 1 ;; esac
  done
}

gone() { [ "$watcher" ] && all_threads_are "$watcher" ZX; }

asleep_for_a_while() {
  for _ in 1 2 3; do
    all_threads_are "$watcher" SZX || return 1
    sleep 0.01
  done
}

idle() { until_true 'it sleeps' asleep_for_a_while; }

inotify_watches() { # PID: how many the kernel knows of
  most=0
  for pid in $(family "$1"); do
    count=$(cat "/proc/$pid"/fdinfo/* 2>/dev/null | grep -c '^inotify wd')
    [ "$count" -gt "$most" ] && most=$count
  done
  echo "$most"
}

# --- start and wait

launch() {
  : >"$out" >"$err"
  env --default-signal=INT,QUIT "$@" <"$stdin" >"$out" 2>"$err" &
  watcher=$!
}

started() { gone || grep -q 'Watches established\|Finished establishing' "$err"; }

start() { # COMMAND...: in the background, until it says that it watches
  launch "$@"
  until_true 'it says that it watches' started
  idle
}

start_quiet() { # COUNT COMMAND...: the same for a watcher that does not say so
  count_wanted=$1
  shift
  launch "$@"
  watches "$count_wanted"
}

has_watches() { gone || [ "$(inotify_watches "$watcher")" -ge "$1" ]; }

watches() { # COUNT
  until_true "it has $1 watches" has_watches "$1"
  idle
}

has_lines() { gone || [ "$(wc -l <"$2")" -ge "$1" ]; }

expect() { # COUNT [FILE]: lines
  until_true "there are $1 lines" has_lines "$1" "${2-$out}"
}

# Between hold and release the kernel merges equal neighbours, always; a running watcher is sometimes faster.
hold() {
  kill -STOP $(family "$watcher")
  until_true 'it is stopped' all_threads_are "$watcher" T
}
release() {
  kill -CONT $(family "$watcher")
  idle
}

tell() { # SIGNAL
  idle
  kill "-$1" "$watcher" 2>/dev/null # it may have ended by itself
}

# --- end and show

show() {
  echo '--- stdout'
  cat "$out"
  echo '--- stderr'
  cat "$err"
  echo "--- exit $code"
}

ends() { # waits until it ends by itself
  until_true 'it ends' gone
  wait "$watcher"
  code=$?
  watcher=
  show
}

finish() { # [SIGNAL]
  tell "${1-TERM}"
  ends
}

run() { # COMMAND...: in the foreground, for what ends by itself
  timeout --foreground -k 1 20 "$@" <"$stdin" >"$out" 2>"$err"
  code=$?
  case $code in 126 | 127) give_up "$1 can be run" ;; esac
  show
}

holders() { # FILE: the processes that have it open
  find /proc/[0-9]*/fd -lname "$1" 2>/dev/null | sed 's|^/proc/||; s|/.*||' | sort -u
}

nobody_holds() { [ -z "$(holders "$1")" ]; }

daemonized() { daemon=$(holders "$1") && [ "$daemon" ] && [ "$(inotify_watches "$daemon")" -ge "$2" ]; }

find_daemon() { # OUTFILE COUNT: sets daemon once it has so many watches
  until_true "a daemon writes $1" daemonized "$1" "$2"
  watcher=$daemon
  idle
  watcher=
}

in_mount_namespace() { # its mounts end with the case
  [ "${NAMESPACE-}" = mount ] || NAMESPACE=mount exec unshare -m sh "$0"
}

in_user_namespace() { # where limits on inotify are ours to set
  [ "${NAMESPACE-}" = user ] || NAMESPACE=user exec unshare -U -r sh "$0"
}

nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'

repeat() { # COUNT TEXT
  printf "%$1s" '' | sed "s/ /$2/g"
}
