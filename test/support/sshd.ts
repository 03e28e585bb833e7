import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { freePort } from './daemon.js'
import { until } from './eventually.js'
import type { Stage } from './stage.js'

/** A real sshd on loopback that lets this user in by a key of its own, and the ssh command that reaches it. */
export class Sshd {
  readonly #child: ChildProcess

  private constructor(
    readonly port: number,
    /** The remote shell with the options that it takes to get in. */
    readonly rsh: string,
    readonly logFile: string,
    child: ChildProcess,
  ) {
    this.#child = child
  }

  static async start(stage: Stage, more: string[] = [], name = 'ssh'): Promise<Sshd> {
    mkdirSync('/run/sshd', { recursive: true }) // where it goes to without privileges; Debian's service makes it
    const port = await freePort()
    const home = stage.dir(name)
    const key = (name: string) => execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', `${home}/${name}`])
    for (const name of ['host', 'user']) key(name)
    writeFileSync(`${home}/authorized`, readFileSync(`${home}/user.pub`), { mode: 0o600 })
    writeFileSync(`${home}/known`, `[127.0.0.1]:${port} ${readFileSync(`${home}/host.pub`, 'utf8')}`)
    const settings = [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${home}/host`,
      `AuthorizedKeysFile ${home}/authorized`,
      'StrictModes no',
      'PermitRootLogin yes',
      'PasswordAuthentication no',
      `PidFile ${home}/pid`,
      ...more,
    ]
    writeFileSync(`${home}/sshd_config`, `${settings.join('\n')}\n`)
    const logFile = `${home}/log`
    const child = spawn('/usr/sbin/sshd', ['-D', '-f', `${home}/sshd_config`, '-E', logFile], { stdio: 'ignore' })
    const rsh = `ssh -F none -p ${port} -i ${home}/user -o UserKnownHostsFile=${home}/known`
    const sshd = new Sshd(port, rsh, logFile, child)
    stage.defer(() => void child.kill('SIGKILL'))
    stage.witness('sshd', () => sshd.log())
    await until('sshd answers', () => answers(port), { problem: () => sshd.log() })
    return sshd
  }

  log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8') : ''
  }

  /** How often somebody has logged in. */
  get logins(): number {
    return this.log().match(/Accepted publickey/g)?.length ?? 0
  }

  /** The processes that serve connections are its children: they end as when the network does. */
  cut(): void {
    execFileSync('pkill', ['-KILL', '-P', String(this.#child.pid)])
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => resolve(false))
    socket.once('data', () => {
      resolve(true)
      socket.destroy()
    })
  })
}
