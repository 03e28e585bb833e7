# long options may be cut short, and stand after the paths
. "$LIB"
mkdir d
run $INOTIFYWAIT d --timeo=1 --recur --qui
run $INOTIFYWAIT --mon d --timeo 1
run $INOTIFYWATCH d --time 1 --verb --zer
