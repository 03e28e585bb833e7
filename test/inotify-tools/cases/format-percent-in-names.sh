# conversions in names are not converted
. "$LIB"
mkdir d
start $INOTIFYWAIT -m --format '%w%f' -e create d
touch 'd/%w%f%e' 'd/\n' 'd/100%'
expect 3
finish
