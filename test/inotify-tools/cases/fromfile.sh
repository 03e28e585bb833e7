# paths from a file, with those of the command line; blank lines and no last newline
. "$LIB"
mkdir -p d e/s
touch f
printf '\nd\n\nf' >list
start $INOTIFYWAIT -m -e close_write --fromfile list e
touch d/a
touch f
touch e/b
expect 3
finish
