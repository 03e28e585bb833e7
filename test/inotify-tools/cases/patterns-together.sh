# include does not go with exclude, nor a pattern with its case-insensitive twin
. "$LIB"
for pair in '--exclude --include' '--exclude --includei' '--excludei --include' '--excludei --includei' \
  '--exclude --excludei' '--excludei --exclude' '--include --includei'; do
  run $INOTIFYWAIT ${pair% *} a ${pair#* } b f
  run $INOTIFYWATCH ${pair% *} a ${pair#* } b f
done
