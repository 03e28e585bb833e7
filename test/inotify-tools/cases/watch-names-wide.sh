# names of every kind at the end of a row
. "$LIB"
mkdir "$(repeat 200 n)" 'a b' 'ü' 'n
l' "$(printf '\377')"
start $INOTIFYWATCH -e create "$(repeat 200 n)" 'a b' 'ü' 'n
l' "$(printf '\377')"
for dir in ./*/; do touch "$dir/x"; done
finish
