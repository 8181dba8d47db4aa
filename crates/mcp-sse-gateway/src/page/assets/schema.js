// From a JSON Schema to a form and back, without a page: `plan` says which fields there are, a draft is what stands in them,
// and `read` makes the value of it. What a form cannot show is a field for JSON. A schema is a stranger's: recursion, depth
// and number of fields are bounded.

import { isObject } from './client.js';
import { compact, cut, detached, pretty } from './text.js';

const MAX_DEPTH = 6;
const MAX_FIELDS = 200;
const MAX_OPTIONS = 500;
const MAX_PATTERN = 200;
/** Ways in which a pattern may be tried. */
const MAX_PATHS = 1e7;
/** Schemas that are looked into, which a reference in a list of references multiplies. */
const MAX_RESOLVED = 2000;
/** Names of properties that are read, again for every reference to them. */
const MAX_NAMES = 200_000;
/** Fields and characters of a draft that is made of a value. */
const MAX_DRAFT = 500;
const MAX_DRAFT_TEXT = 2_000_000;
const MAX_EMAIL = 1000;
const TOO_MUCH = 'This is too much for a form.';
/** All that is read of a schema. */
const KEYWORDS = ['$ref', 'allOf', 'anyOf', 'const', 'default', 'description', 'enum', 'enumNames', 'exclusiveMaximum',
  'exclusiveMinimum', 'format', 'items', 'maxItems', 'maxLength', 'maximum', 'minItems', 'minLength', 'minimum', 'multipleOf',
  'oneOf', 'pattern', 'prefixItems', 'properties', 'required', 'title', 'type'];

/** The field for a schema. */
export function plan(schema) {
  return new Planner(schema).field(schema, 0, []);
}

class Planner {
  #left = MAX_FIELDS;
  #resolved = 0;
  #names = 0;

  constructor(root) {
    this.root = root;
  }

  field(given, depth, refs) {
    this.#left -= 1;
    const { schema, refs: within, why } = this.#resolve(given, refs);
    const about = describe(schema);
    if (why) return { kind: 'json', why, ...about };
    if (this.#left < 0) return { kind: 'json', why: 'There are too many fields for a form.', ...about };
    if ('const' in schema) return { kind: 'const', value: schema.const, label: label(schema.const), ...about };
    const options = optionsOf(schema);
    if (options) {
      this.#left -= Math.ceil(options.length / 20);
      return { kind: 'enum', options, ...about };
    }
    const variants = schema.anyOf ?? schema.oneOf;
    if (Array.isArray(variants)) return this.#union(schema, variants.slice(0, 100), depth, within, about);
    const types = (Array.isArray(schema.type) ? schema.type.slice(0, 100) : [schema.type ?? guess(schema)])
      .filter(type => typeof type === 'string');
    const others = [...new Set(types)].filter(type => type !== 'null').slice(0, 10);
    if (types.includes('null')) about.nullable = true;
    if (others.length > 1) {
      return this.#union(schema, others.map(type => ({ ...schema, type, title: undefined, description: undefined })), depth,
        within, about);
    }
    return this.#typed(others[0], schema, depth, within, about);
  }

  #typed(type, schema, depth, refs, about) {
    switch (type) {
      case 'string':
        return { kind: 'string', format: text(schema.format), minLength: number(schema.minLength),
          maxLength: number(schema.maxLength), pattern: text(schema.pattern), ...about };
      case 'number':
      case 'integer':
        return {
          kind: type, min: number(schema.minimum), max: number(schema.maximum), above: number(schema.exclusiveMinimum),
          below: number(schema.exclusiveMaximum), step: number(schema.multipleOf), ...about,
        };
      case 'boolean':
        return { kind: 'boolean', ...about };
      case 'object':
        return this.#object(schema, depth, refs, about);
      case 'array':
        return this.#array(schema, depth, refs, about);
      default:
        return { kind: 'json', why: '', ...about };
    }
  }

  #object(schema, depth, refs, about) {
    const names = isObject(schema.properties) ? Object.keys(schema.properties) : [];
    if (!names.length && depth > 0) return { kind: 'json', why: '', ...about, example: '{}' };
    if (depth >= MAX_DEPTH) return { kind: 'json', why: 'This is nested too deeply for a form.', ...about };
    const needed = Array.isArray(schema.required) ? schema.required : [];
    if (this.#isTooMany(names.length + needed.length)) return { kind: 'json', why: TOO_MUCH, ...about };
    const properties = names.map(name => [name, schema.properties[name]]);
    const required = new Set(needed);
    // Required ones first, if not all can be shown: without them no call succeeds.
    const wanted = properties.length > MAX_FIELDS ? properties.sort(([a], [b]) => required.has(b) - required.has(a)) : properties;
    const shown = [];
    for (const [name, property] of wanted) {
      if (this.#left <= 0) break;
      shown.push({ name, required: required.has(name), field: this.field(property, depth + 1, refs) });
    }
    return { kind: 'object', properties: shown, left: properties.length - shown.length, ...about };
  }

  #array(schema, depth, refs, about) {
    const items = Array.isArray(schema.items) || Array.isArray(schema.prefixItems) ? undefined : schema.items;
    if (!isObject(items)) return { kind: 'json', why: '', ...about, example: '[]' };
    if (depth >= MAX_DEPTH) return { kind: 'json', why: 'This is nested too deeply for a form.', ...about };
    const bounds = { minItems: number(schema.minItems), maxItems: number(schema.maxItems) };
    const options = optionsOf(this.#resolve(items, refs).schema);
    if (options && options.length <= 50) return { kind: 'multi', options, ...bounds, ...about };
    return { kind: 'array', item: this.field(items, depth + 1, refs), ...bounds, ...about };
  }

  #union(schema, variants, depth, refs, about) {
    const nullable = variants.some(variant => variant?.type === 'null' || variant?.const === null);
    const others = variants.filter(variant => !(variant?.type === 'null' || variant?.const === null)).slice(0, 10);
    if (nullable) about.nullable = true;
    const { anyOf, oneOf, ...common } = schema;
    const join = variant => (isObject(variant) ? { ...common, ...variant } : variant);
    if (others.length === 1) {
      const field = this.field(join(others[0]), depth, refs);
      return { ...field, ...withValues(about), nullable: field.nullable || about.nullable };
    }
    if (!others.length || depth >= MAX_DEPTH) return { kind: 'json', why: '', ...about };
    const choices = others.map((variant, i) => {
      const field = this.field(variant, depth + 1, refs);
      return { label: field.title ?? NAMES[field.kind] ?? `choice ${i + 1}`, field };
    });
    return { kind: 'union', choices, ...about };
  }

  #isTooMany(names) {
    this.#names += names;
    return this.#names > MAX_NAMES;
  }

  /** Follows references within the schema, and joins `allOf`. */
  #resolve(given, refs) {
    this.#resolved += 1;
    if (this.#resolved > MAX_RESOLVED) return { schema: {}, refs, why: TOO_MUCH };
    if (!isObject(given)) return { schema: {}, refs, why: given === false ? 'Nothing is allowed here.' : '' ,
      ...(given === true || given === undefined ? { why: 'Anything is allowed here.' } : {}) };
    let schema = known(given);
    for (let i = 0; typeof schema.$ref === 'string'; i++) {
      const { $ref: ref, ...rest } = schema;
      if (refs.includes(ref) || i > 20) return { schema: rest, refs, why: 'This refers to itself.' };
      const target = lookup(this.root, ref);
      if (!isObject(target)) return { schema: rest, refs, why: 'The schema refers to something that is not in it.' };
      refs = [...refs, ref];
      schema = { ...known(target), ...rest };
    }
    if (Array.isArray(schema.allOf)) {
      const { allOf, ...own } = schema;
      const joined = { ...own };
      for (const part of allOf.slice(0, 20)) {
        const { schema: more, why } = this.#resolve(part, refs);
        if (why) return { schema: own, refs, why };
        for (const [key, value] of Object.entries(more)) {
          if (key === 'properties' && isObject(value)) {
            joined.properties = { ...value, ...joined.properties };
            if (this.#isTooMany(Object.keys(joined.properties).length)) return { schema: own, refs, why: TOO_MUCH };
          } else if (key === 'required' && Array.isArray(value)) {
            joined.required = [...Array.isArray(joined.required) ? joined.required : [], ...value];
            if (this.#isTooMany(joined.required.length)) return { schema: own, refs, why: TOO_MUCH };
          } else joined[key] ??= value;
        }
      }
      schema = joined;
    }
    return { schema, refs };
  }
}

const NAMES = { string: 'text', number: 'number', integer: 'whole number', boolean: 'yes or no', object: 'object', array: 'list',
  json: 'JSON', enum: 'choice', const: 'fixed value' };

const text = value => (typeof value === 'string' && value !== '' ? value : undefined);
const number = value => (typeof value === 'number' && Number.isFinite(value) ? value : undefined);
const withValues = object => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));

function describe(schema) {
  return { title: text(schema.title), description: text(schema.description), default: schema.default,
    hasDefault: 'default' in schema };
}

function guess(schema) {
  if (isObject(schema.properties)) return 'object';
  if ('items' in schema) return 'array';
  if ('minLength' in schema || 'maxLength' in schema || 'pattern' in schema) return 'string';
  if ('minimum' in schema || 'maximum' in schema) return 'number';
  return undefined;
}

/** What can be chosen, if the schema lists it. */
function optionsOf(schema) {
  if (Array.isArray(schema.enum) && schema.enum.length && schema.enum.length <= MAX_OPTIONS) {
    const names = Array.isArray(schema.enumNames) ? schema.enumNames : [];
    return schema.enum.map((value, i) => ({ value, label: label(names[i] ?? value) }));
  }
  const titled = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(titled) && titled.length && titled.length <= MAX_OPTIONS
    && titled.every(option => isObject(option) && 'const' in option)) {
    return titled.map(option => ({ value: option.const, label: label(option.title ?? option.const) }));
  }
  return undefined;
}

const texts = new WeakMap();

/** The beginning of an object's JSON, which is made once, however often the schema refers to it. */
function textOf(object) {
  if (!texts.has(object)) texts.set(object, detached(compact(object, 10_000)));
  return texts.get(object);
}

const isComposite = value => value !== null && typeof value === 'object';
const label = value => (typeof value === 'string' ? cut(value, 200) : isComposite(value) ? cut(textOf(value), 200)
  : String(value));

const indexes = new WeakMap();

/** Which of the options the value is, or -1. */
function indexOf(options, value) {
  // The NUL keeps apart what is an object and what is a text that reads the same.
  const key = value => (isComposite(value) ? `\0${textOf(value)}` : value);
  let index = indexes.get(options);
  if (!index) {
    index = new Map(options.map((option, i) => [key(option.value), i]).reverse());
    indexes.set(options, index);
  }
  return index.get(key(value)) ?? -1;
}

/** The keywords of a schema that are read at all. */
const known = schema => Object.fromEntries(KEYWORDS.filter(key => Object.hasOwn(schema, key)).map(key => [key, schema[key]]));

function lookup(root, ref) {
  if (!ref.startsWith('#') || ref.length > 500) return undefined;
  let at = root;
  try {
    for (const part of decodeURIComponent(ref.slice(1)).split('/').slice(1)) {
      const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
      if (at === null || typeof at !== 'object' || !Object.hasOwn(at, key)) return undefined;
      at = at[key];
    }
  } catch {
    return undefined;
  }
  return at;
}

/** What stands in the fields before anybody has written anything: the defaults. */
export function firstDraft(field, budget = newBudget()) {
  budget.fields -= 1;
  if (field.hasDefault && budget.fields > 0) {
    const draft = draftOf(field, field.default, budget);
    if (draft !== undefined) return draft;
  }
  switch (field.kind) {
    case 'object': return { properties: new Map(field.properties.map(({ name, field }) => [name, firstDraft(field, budget)])),
      extra: [] };
    case 'array': return { items: field.minItems > 0 ? [firstDraft(field.item, budget)] : [] };
    case 'multi': return { chosen: [] };
    case 'union': return { choice: 0, drafts: field.choices.map(choice => firstDraft(choice.field, budget)) };
    case 'boolean': return undefined;
    default: return '';
  }
}

const newBudget = () => ({ fields: MAX_DRAFT, text: MAX_DRAFT_TEXT });

/** The draft that makes `value`, or undefined where the form cannot. */
export function draftOf(field, value, budget = newBudget()) {
  budget.fields -= 1;
  if (budget.fields < 0) return undefined;
  const draft = draftWithin(field, value, budget);
  if (typeof draft === 'string') budget.text -= draft.length;
  return budget.fields < 0 || budget.text < 0 ? undefined : draft;
}

function draftWithin(field, value, budget) {
  if (value === undefined || (value === null && field.nullable)) return firstDraft({ ...field, hasDefault: false }, budget);
  switch (field.kind) {
    case 'string': return typeof value === 'string' ? value : undefined;
    case 'number':
    case 'integer': return typeof value === 'number' ? String(value) : undefined;
    case 'boolean': return typeof value === 'boolean' ? value : undefined;
    case 'const': return indexOf([field], value) < 0 ? undefined : '';
    case 'enum': {
      const i = indexOf(field.options, value);
      return i < 0 ? undefined : String(i);
    }
    case 'multi': {
      if (!Array.isArray(value) || value.length > MAX_OPTIONS) return undefined;
      const chosen = value.map(one => indexOf(field.options, one));
      return chosen.includes(-1) ? undefined : { chosen };
    }
    case 'array': {
      if (!Array.isArray(value) || value.length > 100) return undefined;
      const items = value.map(item => draftOf(field.item, item, budget));
      return items.includes(undefined) && field.item.kind !== 'boolean' ? undefined : { items };
    }
    case 'object': {
      if (!isObject(value)) return undefined;
      const properties = new Map();
      for (const { name, field: inner } of field.properties) {
        const has = Object.hasOwn(value, name);
        const draft = has ? draftOf(inner, value[name], budget) : firstDraft({ ...inner, hasDefault: false }, budget);
        if (has && draft === undefined) return undefined;
        properties.set(name, draft);
      }
      // What the form does not know stays as it is.
      return { properties, extra: Object.entries(value).filter(([name]) => !properties.has(name)) };
    }
    case 'union': {
      for (const [choice, { field: inner }] of field.choices.entries()) {
        const draft = draftOf(inner, value, budget);
        if (draft !== undefined) return { choice,
          drafts: field.choices.map((other, i) => (i === choice ? draft : firstDraft(other.field, budget))) };
      }
      return undefined;
    }
    default: {
      const { text, whole } = pretty(value, { max: Math.min(1_000_000, budget.text), depth: 200 });
      return whole ? text : undefined;
    }
  }
}

/**
 * What a draft says: `{ value, errors }`, where `value` is undefined if nothing was filled in, and `errors` is a map from the
 * path of a field to what is wrong there.
 */
export function read(field, draft, isRequired = true) {
  const errors = new Map();
  const value = readField(field, draft, isRequired, '', errors);
  return { value, errors };
}

function readField(field, draft, isRequired, path, errors) {
  const wrong = message => void errors.set(path, message);
  const missing = () => {
    if (!isRequired) return undefined;
    if (field.nullable) return null;
    return wrong('Fill this in.');
  };
  switch (field.kind) {
    case 'const':
      return isRequired || field.hasDefault ? field.value : undefined;
    case 'string':
      // Whoever means an empty text says so in JSON; most have forgotten it.
      return draft === '' ? missing() : checkString(field, draft, wrong);
    case 'number':
    case 'integer':
      return draft.trim() === '' ? missing() : checkNumber(field, draft.trim(), wrong);
    case 'boolean':
      return draft ?? (isRequired ? field.nullable ? null : false : undefined);
    case 'enum':
      return draft === '' ? isRequired && !field.nullable ? wrong('Choose one.') : missing() : field.options[Number(draft)].value;
    case 'multi': {
      if (!draft.chosen.length && !isRequired) return undefined;
      const values = [...draft.chosen].sort((a, b) => a - b).map(i => field.options[i].value);
      checkCount(field, values, wrong);
      return values;
    }
    case 'array': {
      if (!draft.items.length && !isRequired) return undefined;
      const values = draft.items.map((item, i) => readField(field.item, item, true, `${path}/${i}`, errors));
      checkCount(field, values, wrong);
      return values;
    }
    case 'union':
      return readField(field.choices[draft.choice].field, draft.drafts[draft.choice], isRequired, `${path}/${draft.choice}`,
        errors);
    case 'object':
      return readObject(field, draft, isRequired, path, errors);
    default:
      if (draft.trim() === '') return missing();
      try {
        return JSON.parse(draft);
      } catch (error) {
        return wrong(`This is not JSON: ${error.message}.`);
      }
  }
}

function readObject(field, draft, isRequired, path, errors) {
  const inner = new Map();
  const entries = [];
  let isTouched = draft.extra.length > 0;
  for (const { name, required, field: property } of field.properties) {
    const value = readField(property, draft.properties.get(name), required, `${path}/${name}`, inner);
    if (value === undefined) continue;
    entries.push([name, value]);
    if (!isUntouched(property, draft.properties.get(name))) isTouched = true;
  }
  // An optional object in which nothing was written is left out, whatever it would require.
  if (!isRequired && !isTouched
    && ![...inner.keys()].some(key => isWritten(field, draft, key.slice(path.length)))) return undefined;
  for (const [key, message] of inner) errors.set(key, message);
  return Object.fromEntries([...entries, ...draft.extra]);
}

/** Whether somebody wrote into the field that has an error. */
function isWritten(field, draft, path) {
  const name = path.slice(1).split('/')[0];
  const property = field.properties.find(one => one.name === name);
  return property && !isUntouched(property.field, draft.properties.get(name));
}

function isUntouched(field, draft) {
  switch (field.kind) {
    case 'const': return true;
    case 'object': return !draft.extra.length
      && field.properties.every(({ name, field: inner }) => isUntouched(inner, draft.properties.get(name)));
    case 'array': return !draft.items.length;
    case 'multi': return !draft.chosen.length;
    case 'union': return isUntouched(field.choices[draft.choice].field, draft.drafts[draft.choice]);
    case 'boolean': return draft === undefined;
    default: return draft === '';
  }
}

function checkString(field, value, wrong) {
  const length = [...value.slice(0, 1_000_000)].length;
  if (length < field.minLength) wrong(`At least ${field.minLength} characters.`);
  if (length > field.maxLength) wrong(`At most ${field.maxLength} characters.`);
  if (field.format === 'email' && !isEmail(value)) wrong('This is not an email address.');
  if ((field.format === 'uri' || field.format === 'url') && !URL.canParse(value)) wrong('This is not a URL.');
  if (field.pattern && !matches(field.pattern, value)) wrong(`This does not match ${cut(field.pattern, 100)}.`);
  return value;
}

const isEmail = value => value.length <= MAX_EMAIL && /^[^\s@]+@[^\s@]+$/.test(value);

/** Whether the pattern lets the value pass. One that could take for ever is left to the server. */
function matches(pattern, value) {
  if (pattern.length > MAX_PATTERN || value.length > 200) return true;
  const reach = value.length + 1;
  // Without `^`, or with a choice of which it may be a part only, it is tried from every character on.
  let paths = pattern.startsWith('^') && !pattern.includes('|') ? 1 : reach;
  for (const [part] of pattern.matchAll(/[*+?|]|\{\d*,?\d*\}/g)) paths *= part === '?' || part === '|' ? 2 : reach;
  if (paths > MAX_PATHS || /\)[*+{]/.test(pattern) || /\\\d/.test(pattern)) return true;
  try {
    return new RegExp(pattern, 'u').test(value);
  } catch {
    return true;
  }
}

function checkNumber(field, text, wrong) {
  const value = Number(text);
  if (!Number.isFinite(value)) return wrong('This is not a number.');
  if (field.kind === 'integer' && !Number.isInteger(value)) return wrong('This is not a whole number.');
  if (value < field.min) wrong(`At least ${field.min}.`);
  if (value > field.max) wrong(`At most ${field.max}.`);
  if (value <= field.above) wrong(`More than ${field.above}.`);
  if (value >= field.below) wrong(`Less than ${field.below}.`);
  if (field.step > 0 && Math.abs(value / field.step - Math.round(value / field.step)) > 1e-9) wrong(`A multiple of ${field.step}.`);
  return value;
}

function checkCount(field, values, wrong) {
  if (values.length < field.minItems) wrong(`At least ${field.minItems}.`);
  if (values.length > field.maxItems) wrong(`At most ${field.maxItems}.`);
}

/** What a field asks for, in words. */
export function constraints(field) {
  const parts = [];
  if (field.kind === 'integer') parts.push('whole number');
  if (field.kind === 'number') parts.push('number');
  if (field.min !== undefined && field.max !== undefined) parts.push(`${field.min} to ${field.max}`);
  else if (field.min !== undefined) parts.push(`at least ${field.min}`);
  else if (field.max !== undefined) parts.push(`at most ${field.max}`);
  if (field.above !== undefined) parts.push(`more than ${field.above}`);
  if (field.below !== undefined) parts.push(`less than ${field.below}`);
  if (field.step !== undefined) parts.push(`a multiple of ${field.step}`);
  if (field.minLength) parts.push(`at least ${field.minLength} characters`);
  if (field.maxLength !== undefined) parts.push(`at most ${field.maxLength} characters`);
  if (field.minItems) parts.push(`at least ${field.minItems}`);
  if (field.maxItems !== undefined) parts.push(`at most ${field.maxItems}`);
  // Of the others the browser knows what they are.
  if (field.format && !['email', 'uri', 'url', 'date'].includes(field.format)) parts.push(cut(field.format, 40));
  if (field.pattern) parts.push(`pattern ${cut(field.pattern, 80)}`);
  if (field.nullable) parts.push('empty means null');
  return parts.join(', ');
}
