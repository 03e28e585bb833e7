import { type FilterRule, printable } from '@syncline/rsync'
import { stringify } from 'yaml'
import { type Action, describeDeed } from './actions.js'
import { type ActionKeys, type Config, readConfig } from './config.js'
import { limitText } from './deletion-limit.js'
import { ConfigError } from './errors.js'
import type { MirrorOptions } from './mirror.js'
import { describeSchedule } from './schedule.js'
import type { TargetOptions } from './target.js'

/** A configuration in words, for `syncline check`. */
export function describeConfig({ file, mirrors, guards, process: own, remarks }: Config): string {
  const lines = [`${file} is valid.`]
  for (const one of mirrors) lines.push('', ...describeMirror(one))
  for (const { path, restore, actions } of guards) {
    const deeds = [...actions.map(({ deed }) => describeDeed(deed)), ...(restore ? ['put the kept copy back'] : [])]
    lines.push('', `When ${printable(path)} changes: ${['log it', ...deeds].join(', ')}.`)
  }
  lines.push('')
  if (own.http !== undefined && own.http !== 'off')
    lines.push(`The status is served at http://${own.http.host}:${own.http.port}/status.`)
  if (own.stateDir !== undefined) lines.push(`Journals and control sockets are kept in ${own.stateDir}.`)
  if (own.pidFile !== undefined) lines.push(`The process id is written to ${own.pidFile}.`)
  if (own.logFile !== undefined) lines.push(`The log goes to ${own.logFile}.`)
  for (const remark of remarks) lines.push(`Note: ${remark}.`)
  return lines.join('\n').trimEnd()
}

const AT_THE_START: Record<MirrorOptions['initialSync'], string> = {
  auto: 'At the start everything is compared, unless the snapshot of the last run tells what has changed since.',
  always: 'At the start everything is compared.',
  never: 'At the start nothing is compared: only changes from then on are sent.',
}

function describeMirror(one: MirrorOptions): string[] {
  const lines = [`What changes below ${printable(one.source)} goes to:`]
  for (const target of one.targets) lines.push(`  ${target.destination.name}${describeTarget(target)}`)
  lines.push(`  ${AT_THE_START[one.initialSync]}`)
  if (one.fullSync !== undefined) lines.push(`  Everything is compared again ${describeSchedule(one.fullSync)}.`)
  if (!one.attributes)
    lines.push(
      '  A change of mode, owner or time alone is sent with the next change of content, or the next full sync.',
    )
  if (one.whileWritten) lines.push('  A file that is written without a pause is sent every 2 seconds.')
  for (const { include, pattern } of one.rules)
    lines.push(`  ${include ? 'Not left out' : 'Left out'}: ${printable(pattern)}`)
  for (const { source } of one.expressions)
    lines.push(`  Left out, as a regular expression: ${printable(Buffer.from(source).toString('latin1'))}`)
  for (const { pattern } of one.fullSyncRules) lines.push(`  Left alone by that comparison: ${printable(pattern)}`)
  for (const { deed, only, ignoreErrors } of one.actions) {
    const which = only.length === 0 ? '' : `, for ${only.map(({ source }) => source).join(' or ')}`
    lines.push(`  After each change: ${describeDeed(deed)}${which}${ignoreErrors ? ', whatever comes of it' : ''}`)
  }
  if (one.failureFile !== undefined) lines.push(`  What has failed and is still owed is listed in ${one.failureFile}.`)
  return lines
}

function describeTarget({
  delete: deletes,
  maxDelete,
  compress,
  update,
  rate,
  credentials,
  timeoutMs,
}: TargetOptions): string {
  const said = [deletes ? 'deletes what the source does not have' : 'deletes nothing']
  if (deletes && maxDelete !== undefined) said.push(`halts before more than ${limitText(maxDelete)} deletions at once`)
  if (compress) said.push('compressed')
  if (update) said.push('leaves newer files alone')
  if (rate > 0) said.push(`at most ${Math.round(rate / 1024)} KiB a second`)
  if (credentials !== undefined) said.push(`logs in as ${credentials.user}`)
  said.push(`gives up after ${timeoutMs / 1000} s of silence`)
  return `: ${said.join(', ')}`
}

/** A configuration as YAML, for `syncline import`. Passwords stay where they are. */
export function toYaml(file: string): string {
  const config = readConfig(file)
  if (!config.sersync) throw new ConfigError(`${file} is YAML already; import reads sersync's confxml.xml`)
  const { process: own, remarks } = config
  const sources = config.mirrors.map((one) => ({
    path: utf8(one.source),
    ...(one.rules.length > 0 && { exclude: one.rules.map(ruleText) }),
    ...(one.expressions.length > 0 && {
      'exclude-regex': one.expressions.map(({ source }) => source),
    }),
    ...(!one.attributes && { attributes: false }),
    ...(one.whileWritten && { 'while-written': true }),
    ...(one.initialSync !== 'auto' && { 'initial-sync': one.initialSync }),
    ...(one.watch !== 'auto' && { watch: one.watch }),
    ...(one.fullSync !== undefined && {
      'full-sync': 'cron' in one.fullSync ? one.fullSync.cron : describeSchedule(one.fullSync).replace(/ (\w)$/, '$1'),
    }),
    ...(one.fullSyncRules.length > 0 && { 'full-sync-exclude': one.fullSyncRules.map(ruleText) }),
    ...(one.failureFile !== undefined && { 'failure-file': one.failureFile }),
    ...(one.actions.length > 0 && { actions: one.actions.map(actionKeys) }),
    targets: one.targets.map((target) => ({
      to: target.destination.name,
      ...rshOf(target),
      ...(!target.delete && { delete: false }),
      ...(target.compress && { compress: true }),
      ...(target.update && { update: true }),
      ...(target.rate > 0 && { bwlimit: target.rate % 1024 === 0 ? target.rate / 1024 : `${target.rate}B` }),
      timeout: target.timeoutMs / 1000,
      ...(target.passwordFile !== undefined && { 'password-file': target.passwordFile }),
    })),
  }))
  const http =
    own.http === undefined || own.http === 'off'
      ? {}
      : { http: `${own.http.host.includes(':') ? `[${own.http.host}]` : own.http.host}:${own.http.port}` }
  const head = [`# from ${printable(file)} by "syncline import"`, ...remarks.map((remark) => `# ${remark}`)].join('\n')
  // sersync listened at none of its hosts, so that several files name the same one: here it would be an error.
  const served = 'http' in http ? `# http: ${http.http}\n` : ''
  return `${head}\n${stringify({ sources })}${served}`
}

function rshOf({ destination: { remote } }: TargetOptions) {
  const rsh = remote.shell?.command.join(' ') ?? 'ssh'
  return rsh === 'ssh' ? {} : { rsh }
}

function actionKeys({ deed, only, ignoreErrors }: Action): ActionKeys {
  const address = ({ host, port }: { host: string; port: number }) =>
    `${host.includes(':') ? `[${host}]` : host}:${port}`
  const rest = {
    ...(only.length > 0 && { 'only-regex': only.map(({ source }) => source) }),
    ...(ignoreErrors && { 'ignore-errors': true }),
  }
  if ('run' in deed || 'post' in deed) return { ...deed, ...rest }
  if ('connect' in deed) return { connect: address(deed.connect), ...rest }
  const { user, password, base, match } = deed.refresh
  const cdn = { server: address(deed.refresh), user, password, base, ...(match !== undefined && { match }) }
  return { 'refresh-cdn': cdn, ...rest }
}

const utf8 = (bytes: string) => Buffer.from(bytes, 'latin1').toString()
const ruleText = ({ include, pattern }: FilterRule) => `${include ? '+' : '-'} ${utf8(pattern)}`
