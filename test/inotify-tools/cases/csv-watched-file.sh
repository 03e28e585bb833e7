# a watched file has an empty third column, and its own name may need quotes
. "$LIB"
touch 'co,mma' '"' 'sp ace' -- -f
start $INOTIFYWAIT -m -c -e close_write 'co,mma' '"' 'sp ace' -- -f
for name in 'co,mma' '"' 'sp ace' -f; do touch -- "$name"; done
expect 4
finish
