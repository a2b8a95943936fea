/**
 * The way to Temporal: the cluster that the environment or a profile names, else the local server.
 *
 * `TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE` and the file of profiles are read by Temporal's own rules, TLS and keys included.
 */
import { Client, Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { type ClientConnectConfig, loadClientConnectConfig } from '@temporalio/envconfig';
import { NativeConnection } from '@temporalio/worker';
import { InputError } from '../datasets/errors.js';
import { ensureSearchAttributes } from './search-attributes.js';
import { type LocalServer, type LocalServerOptions, openLocalServer } from './temporal-server.js';

export interface TemporalConnection {
  readonly client: Client;
  readonly namespace: string;
  readonly address: string;
  /** Whether this is the server that commands start by themselves. */
  readonly isLocal: boolean;
  /** Of the web UI; undefined where a cluster's is not known. */
  readonly uiAddress: string | undefined;
  /** Whether runs may carry our search attributes. */
  readonly hasSearchAttributes: boolean;
  /** Rejects, and never resolves, if the local server died and cannot be started again. */
  readonly lost: Promise<never>;
  /** Page of a workflow in the web UI. */
  workflowUrl(workflowId: string): string | undefined;
  /** A connection for workers; closed with this one. */
  connectWorker(): Promise<NativeConnection>;
  close(): Promise<void>;
}

export type ConnectionOptions = Omit<LocalServerOptions, 'onLost'>;

const CONNECT_MILLISECONDS = 10_000;
/** The local server forgets closed workflows after a day unless told otherwise; nightly runs are compared for longer. */
const RETENTION = '90 days';

/** @throws InputError where the cluster cannot be reached, the profile is wrong, or no local server is to be had. */
export async function openConnection(options: ConnectionOptions = {}): Promise<TemporalConnection> {
  const configured = configuredCluster(options.env);
  return configured ? connectCluster(configured) : connectLocal(options);
}

/** The cluster that the environment names, or undefined where the local server is to be used. */
export function configuredCluster(env: NodeJS.ProcessEnv = process.env): ClientConnectConfig | undefined {
  try {
    const variables = Object.fromEntries(
      Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
    );
    const config = loadClientConnectConfig({ overrideEnvVars: variables });
    return config.connectionOptions.address ? config : undefined;
  } catch (error) {
    throw new InputError(
      `the Temporal configuration cannot be used: ${(error as Error).message}; correct TEMPORAL_* or the profile's file`,
      { cause: error },
    );
  }
}

async function connectCluster(config: ClientConnectConfig): Promise<TemporalConnection> {
  const address = config.connectionOptions.address as string;
  const namespace = config.namespace ?? 'default';
  const connection = await connect(config.connectionOptions, namespace, address);
  const uiAddress = /\.(tmprl\.cloud|api\.temporal\.io)(:\d+)?$/.test(address)
    ? 'https://cloud.temporal.io'
    : undefined;
  return describeConnection({ config: config.connectionOptions, connection, namespace, address, uiAddress });
}

async function connectLocal(options: ConnectionOptions): Promise<TemporalConnection> {
  let lose: (error: Error) => void = () => {};
  const lost = new Promise<never>((_, reject) => {
    lose = reject;
  });
  lost.catch(() => undefined);
  const server = await openLocalServer({ ...options, onLost: lose });
  try {
    const { address, uiAddress } = server.state;
    const config = { address };
    const connection = await connect(config, 'default', address);
    if (server.started) await keepHistory(connection);
    return await describeConnection({ config, connection, namespace: 'default', address, uiAddress, server, lost });
  } catch (error) {
    await server.close();
    throw error;
  }
}

interface Opened {
  readonly config: ClientConnectConfig['connectionOptions'];
  readonly connection: Connection;
  readonly namespace: string;
  readonly address: string;
  readonly uiAddress: string | undefined;
  readonly server?: LocalServer;
  readonly lost?: Promise<never>;
}

async function describeConnection(opened: Opened): Promise<TemporalConnection> {
  const { config, connection, namespace, address, uiAddress, server } = opened;
  const workers: NativeConnection[] = [];
  return {
    client: new Client({ connection, namespace }),
    namespace,
    address,
    isLocal: server !== undefined,
    uiAddress,
    hasSearchAttributes: await ensureSearchAttributes(connection, namespace),
    lost: opened.lost ?? new Promise<never>(() => {}),
    workflowUrl: (workflowId) =>
      uiAddress && `${uiAddress}/namespaces/${namespace}/workflows/${encodeURIComponent(workflowId)}`,
    async connectWorker() {
      const worker = await NativeConnection.connect(config);
      workers.push(worker);
      return worker;
    },
    async close() {
      for (const worker of workers) await worker.close();
      await connection.close();
      await server?.close();
    },
  };
}

async function connect(config: Opened['config'], namespace: string, address: string): Promise<Connection> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ ...config, connectTimeout: CONNECT_MILLISECONDS } as object);
    await connection.workflowService.describeNamespace({ namespace });
    return connection;
  } catch (error) {
    await connection?.close();
    const { message } = error as Error;
    throw new InputError(
      `cannot use Temporal at ${address}, namespace ${namespace}: ${message}; ` +
        'start it, correct TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE or the profile, or unset them to use a local server',
      { cause: error },
    );
  }
}

async function keepHistory(connection: Connection): Promise<void> {
  const workflowExecutionRetentionTtl = msToTs(RETENTION);
  await connection.workflowService.updateNamespace({ namespace: 'default', config: { workflowExecutionRetentionTtl } });
}
