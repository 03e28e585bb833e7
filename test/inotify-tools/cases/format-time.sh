# %T in strftime's words, UTC here
. "$LIB"
mkdir d
start $INOTIFYWAIT --timefmt '[%%]%%e %n%t%Z%z %q|%w' --format '%T %T' -e create d
touch d/a
expect 1
sed -i 's/|[0-6] /|day /; s/|[0-6]$/|day/' "$out"
ends
start $INOTIFYWAIT --timefmt 'plain %%w' --format '%T%%T' -e create d
touch d/b
ends
