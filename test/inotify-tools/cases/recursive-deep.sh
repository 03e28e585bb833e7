# sixty levels
. "$LIB"
path=d
for i in $(seq 60); do path=$path/$i; done
mkdir -p $path
start $INOTIFYWAIT -mr -e create d
touch $path/a
expect 1
finish
