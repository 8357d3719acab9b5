import type { ClusterName, DemoCluster, World } from './world.ts'

/** The command lines that the story runs, exactly as a reader would type them in the demo's folder. */
export class Commands {
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  /** An HTTP call from the cluster's `sleep`: by the mesh's name alone, through the sidecar. */
  curl(cluster: ClusterName, target: string, flags = '-sS'): string {
    return this.#world.netns ? `curl ${flags} ${target}` : this.connect(cluster, target, flags)
  }

  /** The page, of which only the title is shown. */
  page(cluster: ClusterName): string {
    return `${this.curl(cluster, 'productpage.bookinfo:9080/productpage')} | grep -o '<title>.*</title>'`
  }

  /** The same through the sidecar's HTTP CONNECT, for who cannot change his resolver. */
  connect(cluster: ClusterName, target: string, flags = '-sS'): string {
    return `curl ${flags} --proxytunnel --proxy http://${this.#world.cluster(cluster).config.sidecar?.connect} ${target}`
  }

  /** Calls one after the other: how many each pod answered. A call that failed has no pod. */
  answeredBy(cluster: ClusterName, target: string, calls: number): string {
    const one = this.curl(cluster, target, '-sS -o /dev/null -D -')
    return `for i in $(seq ${calls}); do ${one} | tr -d '\\r' | grep -i '^x-pod:' || echo 'no answer'; done | sort | uniq -c`
  }

  /** A call whose connection the client keeps for later ones, `seconds` long. */
  keptConnection(cluster: ClusterName, target: string, path: string, seconds: number): string {
    const request = `printf 'GET ${path} HTTP/1.1\\r\\nhost: ${target}\\r\\n\\r\\n'`
    return `(${request}; sleep ${seconds}) | ${this.curl(cluster, `telnet://${target}`, '-sS -N')}`
  }

  /** Whether a pod of the example listens: without it is a crashed one. */
  listening(pod: string, on: boolean): string {
    return `curl -sS -X POST '${pod}:9091/listening?on=${on}'`
  }

  apply(cluster: ClusterName, ...files: readonly string[]): string {
    return `./isthmus apply ${files.map((file) => `-f ${file}`).join(' ')} --dir ${cluster}/yaml`
  }

  delete(cluster: ClusterName, ...files: readonly string[]): string {
    return `./isthmus delete ${files.map((file) => `-f ${file}`).join(' ')} --dir ${cluster}/yaml`
  }

  get(cluster: ClusterName, what: string): string {
    return `./isthmus get ${what} --dir ${cluster}/yaml`
  }

  status(cluster: ClusterName): string {
    return `./isthmus status --admin ${this.#cluster(cluster).config.discovery.admin}`
  }

  /** Every hop from a cluster to what it calls, asked of both ends and tried; names the first that does not hold. */
  explain(from: ClusterName, target: string): string {
    return `./isthmus explain ${from} ${target} --state state.json`
  }

  /** Straight at a gateway's 15443 as `identity`, or as nobody; `-quiet` leaves what the other side sends. */
  knock(gateway: string, service: string, port: number, identity: ClusterName | undefined): string {
    const name = `outbound_.${port}_._.${service}.bookinfo.svc.cluster.local`
    const files = `${identity}/identities/sleep`
    const credential =
      identity === undefined
        ? ' -CAfile cluster-1/ca/root-cert.pem'
        : ` -cert ${files}/tls.crt -key ${files}/tls.key -cert_chain ${files}/tls.crt -CAfile ${files}/roots.pem`
    const request = `printf 'GET /health HTTP/1.0\\r\\n\\r\\n'`
    return `(${request}; sleep 1) | openssl s_client -connect ${gateway} -servername ${name}${credential} -quiet -verify_quiet 2>&1`
  }

  /** What the newest line of an access log that matches says: who asked for what, how it ended and why. */
  accessLog(file: string, pattern: string): string {
    return `grep -h '${pattern}' ${this.#short(file)} | tail -n 1 | grep -o '"\\(sni\\|host\\|peer\\|flag\\|reason\\)":"[^"]*"'`
  }

  /** The newest lines of a log that match. */
  log(file: string, pattern: string, lines = 1): string {
    return `grep -h '${pattern}' ${this.#short(file)} | tail -n ${lines}`
  }

  /** Plain HTTP to the sidecar's listener, where the resolver of this machine cannot be the cluster's. */
  curlAt(address: string, host: string, path: string): string {
    return `curl -sSi --resolve ${host}:${address} ${host}${path}`
  }

  #cluster(name: ClusterName): DemoCluster {
    return this.#world.cluster(name)
  }

  /** Relative to the demo's folder, where the commands run. */
  #short(file: string): string {
    return file.startsWith(`${this.#world.folder}/`) ? file.slice(this.#world.folder.length + 1) : file
  }
}
