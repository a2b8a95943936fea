import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ChatMessage, checkColumns, compileTemplate, renderChat } from '../../datasets/prompt.js';

const readJson = (path: string) =>
  JSON.parse(readFileSync(join(process.cwd(), 'test/fixtures', path), 'utf8')) as unknown;

const jinja = readJson('lm-eval-prompts/jinja.json') as {
  values: Record<string, unknown>;
  cases: { template: string; rendered: string }[];
};
const chat = readJson('smollm2-135m/chat-cases.json') as {
  chatTemplate: string;
  conversations: { messages: ChatMessage[]; addGenerationPrompt: boolean; rendered: string }[];
};

describe('a template renders as in Python', () => {
  it.each(jinja.cases)('$template', ({ template, rendered }) => {
    expect(compileTemplate(template, 'task.yaml:1').render(jinja.values)).toBe(rendered);
  });
});

describe('a conversation renders as in transformers', () => {
  it.each(chat.conversations)(
    '$messages.0.role, generation prompt $addGenerationPrompt',
    ({ messages, addGenerationPrompt, rendered }) => {
      expect(
        renderChat(chat.chatTemplate, messages, {
          bosToken: '<|im_start|>',
          eosToken: '<|im_end|>',
          addGenerationPrompt,
        }),
      ).toBe(rendered);
    },
  );

  it('takes the newline after a block and the blanks before it', () => {
    const template =
      '{%- for m in messages %}\n  {% if true %}\n[{{ m.content }}]{{ eos_token }}\n  {% endif %}\n{% endfor %}\n';
    const options = { bosToken: '', eosToken: '</s>', addGenerationPrompt: false };
    // jinja2 3.1.6 with trim_blocks and lstrip_blocks.
    expect(renderChat(template, [{ role: 'user', content: 'a' }], options)).toBe('[a]</s>\n');
  });

  it('passes on what the template objects to', () => {
    const options = { bosToken: '', eosToken: '', addGenerationPrompt: true };
    const template = "{{ raise_exception('Roles must alternate') }}";
    expect(() => renderChat(template, [], options)).toThrow('the chat template of the model: Roles must alternate');
  });
});

describe('a template that is one expression', () => {
  it.each([
    ['{{ l }}', ['a', 2]],
    ['{{ [q, q ~ "!"] }}', ['hm', 'hm!']],
    ['{{ o.k }}', { x: null }],
    ['{{ q }} {{ q }}', 'hm hm'],
  ])('%s evaluates to its value', (text, expected) => {
    const values = { q: 'hm', l: ['a', 2], o: { k: { x: null } } };
    expect(compileTemplate(text, 'task.yaml:1').evaluate(values)).toEqual(expected);
  });
});

describe('mistakes', () => {
  const values = { question: 'q', answer: 'a', tags: {} };
  it.each([
    [
      'a missing column',
      '{{ qestion }}',
      'p.yaml:3: there is no column "qestion"; did you mean "question"? The columns are question, answer, tags',
    ],
    [
      'a missing column like no other',
      '{% if xyzzy %}x{% endif %}',
      'p.yaml:3: there is no column "xyzzy"; known: question, answer, tags',
    ],
    [
      'a missing key of a column',
      'a{{ tags.colour }}',
      'p.yaml:3: a value that is not there is used; does the column have that key?',
    ],
  ])('%s is named with the columns that are there', (_, text, message) => {
    expect(() => compileTemplate(text, 'p.yaml:3').render(values)).toThrow(message);
  });

  it('a column is missing already before the first prompt is rendered', () => {
    const template = compileTemplate('{% if false %}{{ qestion }}{% endif %}', 'p.yaml:3');
    expect(() => checkColumns(template, values)).toThrow('"qestion"; did you mean "question"');
  });

  it.each([
    ['an unclosed block', '{% if question %}', /^p\.yaml:3: no Jinja template: /],
    ['an unclosed expression', '{{ question', /^p\.yaml:3: no Jinja template: /],
    ['an unknown filter', '{{ question | uper }}', 'p.yaml:3: there is no filter "uper"; did you mean "upper"?'],
    ['strip with an argument', '{{ question.rstrip("?") }}', 'p.yaml:3: rstrip() with an argument is not supported'],
  ])('%s is refused before any row is read', (_, text, message) => {
    expect(() => compileTemplate(text, 'p.yaml:3')).toThrow(message);
  });

  it.each([
    '{{ x is defined }}',
    '{{ x | default("y") }}',
    '{% set x = 1 %}{{ x }}',
    '{% for x in tags %}{{ x }}{% endfor %}',
  ])('%s needs no column x', (text) => {
    expect(() => checkColumns(compileTemplate(text, 'p.yaml:3'), values)).not.toThrow();
  });
});
