/** True for an address of 127.0.0.0/8 or ::1, and for `localhost`: what never leaves this machine. */
export function isLoopback(host: string): boolean {
  return /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host) || host === '::1' || host === 'localhost'
}
