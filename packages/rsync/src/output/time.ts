const two = (value: number) => String(value).padStart(2, '0')

/** util1.c timestring(): local time, to the second. */
export function timeString(seconds: number): string {
  const date = new Date(seconds * 1000)
  if (Number.isNaN(date.getTime())) return '(time out of range)'
  const day = [String(date.getFullYear()).padStart(4), two(date.getMonth() + 1), two(date.getDate())]
  return `${day.join('/')} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`
}
