/**
 * Makes capitals.csv from `countries.min.json` of the npm package countries-list:
 *
 *   node pipelines/data/make-capitals.mjs path/to/countries-list/countries.min.json > pipelines/data/capitals.csv
 *
 * One row a country, with four capitals of its continent to choose from, the right one among them. Which three others, and in
 * which order, follows from a hash, so that the file can be made again.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Dependent territories that are mostly part of the country they depend on. */
const territories = 'AC AI AX BL BQ CC CX GF GG GP GS HK IM IO JE MF MQ NF PM PN RE SH SJ TA TF TK WF YT'.split(' ');
/** Shown as examples by the tasks. */
const examples = ['FR', 'JP', 'EG', 'PE', 'CA'];

const list = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const countries = Object.entries(list)
  .map(([code, { name, capital, continent }]) => ({ code, name, capital, continent }))
  .filter(({ code, capital }) => capital !== '' && !territories.includes(code))
  .filter(({ name, capital }) => !name.includes(capital) && !capital.includes(name) && name !== 'Tunisia');

const hash = (text) => createHash('sha256').update(text).digest('hex');
const byHash = (country) => (a, b) => (hash(country.code + a) < hash(country.code + b) ? -1 : 1);

const rows = countries
  .filter(({ code }) => !examples.includes(code))
  .map((country) => {
    const others = countries.filter(
      (other) => other.continent === country.continent && other.capital !== country.capital,
    );
    const wrong = others
      .map(({ capital }) => capital)
      .sort(byHash(country))
      .slice(0, 3);
    const options = [country.capital, ...wrong].sort(byHash({ code: `${country.code} order ` }));
    return [country.code, country.name, country.capital, ...options];
  });

const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
process.stdout.write(
  `${['code,country,capital,a,b,c,d', ...rows.map((row) => row.map(quoted).join(','))].join('\n')}\n`,
);
