// Loaded before the product (`--import`): its wall clock is off by as many milliseconds as the file named by
// ISTHMUS_TEST_CLOCK_FILE says, from the moment on that the file says so. Timers and OpenSSL keep the real time, as they do when
// somebody sets the clock of a running machine, but for OpenSSL.
import { readFileSync } from 'node:fs'

const file = process.env['ISTHMUS_TEST_CLOCK_FILE']
const realNow = Date.now
let offset = 0
let readAt = 0

function now() {
  const real = realNow()
  if (real - readAt >= 10) {
    readAt = real
    try {
      offset = Number(readFileSync(file, 'utf8')) || 0
    } catch {
      offset = 0
    }
  }
  return real + offset
}

const RealDate = Date
if (file !== undefined) {
  globalThis.Date = class extends RealDate {
    constructor(...args) {
      if (args.length === 0) super(now())
      else super(...args)
    }

    static now() {
      return now()
    }
  }
}
