/** Mixtures of experts, as configurations write them. */
import { EngineError } from '../../errors.js';
import type { Experts, ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import type { Place, Places } from './family.js';
import { unsupported } from './family.js';

/** Every expert's matrix is a part of one tensor of three dimensions. */
export const ggufExpertPlaces: Places = {
  'layers.{i}.router': 'blk.{i}.ffn_gate_inp',
  'layers.{i}.experts.{e}.gate': expertRows('blk.{i}.ffn_gate_exps'),
  'layers.{i}.experts.{e}.up': expertRows('blk.{i}.ffn_up_exps'),
  'layers.{i}.experts.{e}.down': expertRows('blk.{i}.ffn_down_exps', ({ hiddenSize }) => hiddenSize),
};

/** The network that every row uses, beside the experts. */
export const ggufSharedPlaces: Places = {
  'layers.{i}.shared': 'blk.{i}.ffn_gate_inp_shexp',
  'layers.{i}.gate': 'blk.{i}.ffn_gate_shexp',
  'layers.{i}.up': 'blk.{i}.ffn_up_shexp',
  'layers.{i}.down': 'blk.{i}.ffn_down_shexp',
};

/** @throws BAD_WEIGHTS if a row would use more experts than there are */
export function checkedExperts(fields: Fields, experts: Experts): Experts {
  const { count, perToken } = experts;
  if (perToken <= count) return experts;
  throw new EngineError('BAD_WEIGHTS', `${fields.source}: a row uses ${perToken} experts, and there are ${count}`, {
    path: fields.source,
    count,
    perToken,
  });
}

/** That every layer has experts, as all that is published has. @throws UNSUPPORTED */
export function checkEveryLayer(config: Fields): void {
  const step = config.number('decoder_sparse_step', 1);
  if (step !== 1) throw unsupported(config.source, 'decoder_sparse_step', step, [1]);
  const plain = config.raw('mlp_only_layers') ?? [];
  if (Array.isArray(plain) && plain.length === 0) return;
  throw unsupported(config.source, 'mlp_only_layers', plain, [[]]);
}

/** What the metadata of a GGUF file say of experts; nothing where there are none. */
export function ggufExperts(
  metadata: Fields,
  architecture: string,
  renormalised: boolean,
): Pick<ModelConfig, 'experts'> & Partial<Pick<ModelConfig, 'ffnSize'>> {
  const key = (name: string) => `${architecture}.${name}`;
  if (metadata.number(key('expert_count'), 0) === 0) return {};
  const sharedSize = metadata.raw(key('expert_shared_feed_forward_length'));
  const experts = checkedExperts(metadata, {
    count: metadata.count(key('expert_count')),
    perToken: metadata.count(key('expert_used_count')),
    renormalised,
    ...(sharedSize == null ? {} : { sharedSize: metadata.count(key('expert_shared_feed_forward_length')) }),
  });
  const ownSize = metadata.raw(key('expert_feed_forward_length'));
  return { experts, ...(ownSize == null ? {} : { ffnSize: metadata.count(key('expert_feed_forward_length')) }) };
}

function expertRows(name: string, rows: (config: ModelConfig) => number = ({ ffnSize }) => ffnSize): Place {
  return {
    name,
    fileRow: (config, row, expert) => expert * rows(config) + row,
    fileShape: ({ experts }, shape) => [experts?.count ?? 1, ...shape],
  };
}
