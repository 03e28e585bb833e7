import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { HOSTILE_NAMES } from './names.js'
import { content, makeSocket, raw } from './sample.js'

/** What is done to the source, each on a tree that the ones before it have left behind. */
export const CHANGES: Record<string, (source: string, outside: string) => void> = {
  'a new file': (s) => fs.writeFileSync(`${s}/new`, content(4096)),
  'a new empty file': (s) => fs.writeFileSync(`${s}/new empty`, ''),
  'a file overwritten in place': (s) => fs.writeFileSync(`${s}/small`, 'other'),
  'bytes appended': (s) => fs.appendFileSync(`${s}/large`, 'appended'),
  'one byte changed in a large file': (s) => {
    const file = fs.openSync(`${s}/large`, 'r+')
    fs.writeSync(file, 'X', 1_234_567)
    fs.closeSync(file)
  },
  'a file cut short': (s) => fs.truncateSync(`${s}/large`, 10),
  'other content of the same size with the old mtime': (s) => {
    const { mtime } = fs.statSync(`${s}/owned`)
    fs.writeFileSync(`${s}/owned`, 'OWNED')
    fs.utimesSync(`${s}/owned`, mtime, mtime)
  },
  'a file replaced by one with an older mtime': (s, outside) => {
    fs.writeFileSync(`${outside}/older`, 'older')
    fs.utimesSync(`${outside}/older`, 1e9, 1e9)
    fs.renameSync(`${outside}/older`, `${s}/small`)
  },
  'a changed mode': (s) => fs.chmodSync(`${s}/small`, 0o6711),
  'a changed mode of a directory': (s) => fs.chmodSync(`${s}/deep`, 0o2750),
  'a changed owner': (s) => fs.chownSync(`${s}/small`, 4321, 1234),
  'a changed owner of a symlink': (s) => fs.lchownSync(`${s}/dangling`, 4321, 1234),
  'a changed mtime': (s) => fs.utimesSync(`${s}/small`, 1.5e9, 1234567890.654321),
  'a changed mtime of a directory': (s) => fs.utimesSync(`${s}/deep/er`, 1.5e9, 1234567890.654321),
  'attributes of the root itself': (s) => {
    fs.chmodSync(s, 0o711)
    fs.chownSync(s, 7, 8)
  },
  'a new symlink': (s) => fs.symlinkSync('any/where', `${s}/new symlink`),
  'a symlink with another target': (s) => {
    fs.unlinkSync(`${s}/new symlink`)
    fs.symlinkSync('else/where', `${s}/new symlink`)
  },
  'a new hard link': (s) => fs.linkSync(`${s}/small`, `${s}/deep/small, linked`),
  'a change through one name of a hard link': (s) => fs.appendFileSync(`${s}/deep/small, linked`, 'more'),
  'a hard link that becomes a file of its own': (s) => {
    fs.unlinkSync(`${s}/deep/small, linked`)
    fs.writeFileSync(`${s}/deep/small, linked`, 'alone')
  },
  'a new FIFO': (s) => void execFileSync('mkfifo', [`${s}/new fifo`]),
  'a new device': (s) => void execFileSync('mknod', [`${s}/new device`, 'c', '5', '1']),
  'a new socket': (s) => makeSocket(`${s}/new socket`),
  'a new directory': (s) => void fs.mkdirSync(`${s}/new directory`),
  'directories made and filled at once': (s) => {
    for (let i = 0; i < 50; i++) {
      fs.mkdirSync(`${s}/tree${i}/a/b/c`, { recursive: true })
      fs.writeFileSync(`${s}/tree${i}/a/b/c/leaf`, `${i}`)
      fs.writeFileSync(`${s}/tree${i}/a/leaf`, `${i}`)
    }
  },
  'a directory made, filled and renamed at once': (s) => {
    fs.mkdirSync(`${s}/first name/a/b`, { recursive: true })
    fs.writeFileSync(`${s}/first name/a/b/leaf`, 'leaf')
    fs.renameSync(`${s}/first name`, `${s}/second name`)
    fs.writeFileSync(`${s}/second name/a/later`, 'later')
  },
  'a file renamed': (s) => fs.renameSync(`${s}/zeros`, `${s}/deep/zeros`),
  'a file renamed onto another': (s) => fs.renameSync(`${s}/mode 1`, `${s}/mode 2`),
  'two files exchanged': (s) => {
    fs.renameSync(`${s}/mtime 0`, `${s}/spare`)
    fs.renameSync(`${s}/mtime 1`, `${s}/mtime 0`)
    fs.renameSync(`${s}/spare`, `${s}/mtime 1`)
  },
  'a directory renamed': (s) => fs.renameSync(`${s}/tree0`, `${s}/tree renamed`),
  'a directory renamed into another, and changed there': (s) => {
    fs.renameSync(`${s}/tree1`, `${s}/tree2/a/moved`)
    fs.writeFileSync(`${s}/tree2/a/moved/a/b/new`, 'new')
    fs.unlinkSync(`${s}/tree2/a/moved/a/leaf`)
  },
  'two directories exchanged': (s) => {
    fs.renameSync(`${s}/tree3`, `${s}/spare`)
    fs.renameSync(`${s}/tree4`, `${s}/tree3`)
    fs.renameSync(`${s}/spare`, `${s}/tree4`)
  },
  'a file moved in from outside': (s, outside) => {
    fs.writeFileSync(`${outside}/file`, 'from outside')
    fs.renameSync(`${outside}/file`, `${s}/from outside`)
  },
  'a directory moved in from outside, and changed there': (s, outside) => {
    fs.mkdirSync(`${outside}/in/a`, { recursive: true })
    for (let i = 0; i < 20; i++) fs.writeFileSync(`${outside}/in/a/${i}`, `${i}`)
    fs.renameSync(`${outside}/in`, `${s}/in`)
    fs.writeFileSync(`${s}/in/a/new`, 'new')
  },
  'a directory moved out': (s, outside) => {
    fs.renameSync(`${s}/tree5`, `${outside}/tree5`)
    fs.writeFileSync(`${outside}/tree5/a/unseen`, 'not ours any more')
  },
  'a directory that left, changed, and came back': (s, outside) => {
    fs.renameSync(`${s}/tree6`, `${outside}/tree6`)
    fs.writeFileSync(`${outside}/tree6/a/while away`, 'away')
    fs.unlinkSync(`${outside}/tree6/a/leaf`)
    fs.renameSync(`${outside}/tree6`, `${s}/tree6`)
  },
  'a file deleted': (s) => fs.unlinkSync(`${s}/mode 3`),
  'a symlink deleted': (s) => fs.unlinkSync(`${s}/dangling`),
  'a special file deleted': (s) => fs.unlinkSync(`${s}/fifo`),
  'a full directory deleted': (s) => fs.rmSync(`${s}/tree7`, { recursive: true }),
  'a directory deleted and made again': (s) => {
    fs.rmSync(`${s}/tree8`, { recursive: true })
    fs.mkdirSync(`${s}/tree8`)
    fs.writeFileSync(`${s}/tree8/other`, 'other')
  },
  'a file replaced by a directory': (s) => {
    fs.unlinkSync(`${s}/empty`)
    fs.mkdirSync(`${s}/empty/not any more`, { recursive: true })
  },
  'a full directory replaced by a file': (s) => {
    fs.rmSync(`${s}/tree9`, { recursive: true })
    fs.writeFileSync(`${s}/tree9`, 'a file now')
  },
  'a full directory replaced by a symlink to another': (s) => {
    fs.rmSync(`${s}/tree10`, { recursive: true })
    fs.symlinkSync('tree11', `${s}/tree10`)
  },
  'a dot file made by renaming a plain one': (s) => {
    fs.writeFileSync(`${s}/conf`, 'conf')
    fs.renameSync(`${s}/conf`, `${s}/.conf`)
  },
  'every hostile name changed': (s) => {
    for (const name of HOSTILE_NAMES) fs.appendFileSync(raw(s, name), 'changed')
  },
  'every hostile name renamed': (s) => {
    for (const [i, name] of HOSTILE_NAMES.entries()) fs.renameSync(raw(`${s}/deep`, name), `${s}/deep/renamed ${i}`)
  },
  'every hostile name deleted': (s) => {
    for (const name of HOSTILE_NAMES) fs.unlinkSync(raw(s, name))
  },
  'directories with hostile names, filled': (s) => {
    for (const name of HOSTILE_NAMES) {
      fs.mkdirSync(raw(s, name))
      for (const inner of HOSTILE_NAMES.slice(0, 10)) fs.writeFileSync(raw(s, `${name}/${inner}`), inner)
    }
  },
  'a file called * deleted, and one called --exclude=zzz': (s) => {
    fs.writeFileSync(`${s}/in/*`, '')
    fs.writeFileSync(`${s}/in/--exclude=zzz`, '')
    fs.unlinkSync(`${s}/in/*`)
    fs.unlinkSync(`${s}/in/--exclude=zzz`)
  },
}
