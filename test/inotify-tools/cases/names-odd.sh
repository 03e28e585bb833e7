# newline, invalid UTF-8, a dash in front, tabs: printed as they are
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create d
touch 'd/n
l' "$(printf 'd/\377X\376')" d/--dash 'd/t	b' 'd/ ' 'd/é'
expect 7
finish
