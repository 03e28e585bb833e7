# --exclude, --excludei, --include, --includei
. "$LIB"
mkdir d
touch f.log
for option in '--exclude \.log$' '--excludei \.LOG$' '--include \.log$' '--includei LOG$' '--exclude ^d'; do
  start $INOTIFYWATCH $option -e create,attrib d f.log
  touch d/a.log d/b.txt d/C.LOG
  touch f.log
  finish
  rm d/*
done
