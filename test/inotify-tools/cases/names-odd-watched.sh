# the same in watched paths
. "$LIB"
mkdir 'n
l' "$(printf '\377')" ./-d
start $INOTIFYWAIT -m -e create 'n
l' "$(printf '\377')" -- -d
touch 'n
l/a' "$(printf '\377/b')" ./-d/c
expect 4
finish
