// A form for a JSON Schema, with JSON as the other way to write the same.

import { draftOf, firstDraft, constraints, plan, read } from './schema.js';
import { compact, cut, plain, pretty } from './text.js';
import { isObject } from './client.js';
import { LongText, Icon, Text, html, useEffect, useId, useMemo, useRef, useState } from './ui.js';

/**
 * Gives `onSubmit(value)` an object. `memory` is a Map in which what was written survives, under `memoryKey`. `actions` are
 * further buttons; `suggest(name, value, others)` gives values for a field of text.
 */
export function ArgumentsForm({ schema, onSubmit, submitLabel, busy = false, memory, memoryKey, actions, suggest,
  nothing = 'It takes no arguments.' }) {
  const field = useMemo(() => {
    const planned = plan(isObject(schema) ? { ...schema, type: 'object' } : { type: 'object' });
    return planned.kind === 'object' ? planned : { kind: 'object', properties: [], left: 0, unplanned: planned.why };
  }, [schema]);
  const signature = useMemo(() => compact(schema, 50_000), [schema]);
  const [kept, setKept] = useState(memory?.get(memoryKey));
  const first = useMemo(() => ({ mode: field.unplanned === undefined ? 'form' : 'json', draft: firstDraft(field), json: '{}' }),
    [field]);
  // A draft for another schema does not fit any more.
  const state = kept?.signature === signature ? kept : first;
  const [errors, setErrors] = useState(new Map());
  const [complaint, setComplaint] = useState('');
  const form = useRef();
  const jsonId = useId();
  const change = next => {
    const mine = { ...next, signature };
    memory?.set(memoryKey, mine);
    setKept(mine);
  };
  const { mode, draft, json } = state;

  const submit = event => {
    event.preventDefault();
    if (busy) return;
    if (mode === 'json') {
      const { value, error } = parse(json);
      setComplaint(error ?? '');
      if (!error) onSubmit(value);
      return;
    }
    const { value, errors: found } = read(field, draft);
    setErrors(found);
    if (found.size) setTimeout(() => form.current?.querySelector('[aria-invalid="true"]')?.focus());
    else onSubmit(value);
  };
  const edit = next => {
    // What was wrong and is mended is no longer marked.
    if (errors.size) {
      const { errors: left } = read(field, next);
      setErrors(new Map([...errors].filter(([path]) => left.has(path)).map(([path]) => [path, left.get(path)])));
    }
    change({ mode, draft: next, json });
  };
  const toJson = () => {
    const { value } = read(field, draft);
    setErrors(new Map());
    setComplaint('');
    change({ mode: 'json', draft, json: pretty(value ?? {}, { max: 5_000_000, depth: 500 }).text });
  };
  const toForm = () => {
    const { value, error } = parse(json);
    const again = error ? undefined : draftOf(field, value);
    setComplaint(error ?? (again ? '' : 'The form cannot show this. It stays JSON, or change it so that it fits.'));
    if (again) change({ mode: 'form', draft: again, json });
  };
  const isEmpty = !field.properties.length;
  return html`<form class="arguments" ref=${form} onSubmit=${submit} novalidate>
    ${mode === 'form' ? html`
      ${isEmpty && html`<p class="hint">${nothing}</p>`}
      <${Fields} field=${field} draft=${draft} path="" errors=${errors} suggest=${suggest}
        onChange=${edit} />` : html`
      ${field.unplanned && html`<p class="hint">${field.unplanned} It is written as JSON.</p>`}
      <div class="field">
        <label for=${jsonId}>Arguments as JSON</label>
        <textarea id=${jsonId} class="mono" rows="8" spellcheck=${false} value=${json}
          aria-invalid=${complaint ? 'true' : undefined}
          aria-describedby=${complaint ? `${jsonId}-wrong` : undefined}
          onInput=${event => change({ mode, draft, json: event.currentTarget.value })}></textarea>
        ${complaint && html`<p class="wrong" id=${`${jsonId}-wrong`} role="alert">${complaint}</p>`}
      </div>`}
    <div class="buttons">
      <button type="submit" class="primary" aria-disabled=${busy ? 'true' : undefined}>${submitLabel}</button>
      ${actions}
      ${field.unplanned === undefined
        && html`<button type="button" class="quiet push" onClick=${mode === 'form' ? toJson : toForm}>
        ${mode === 'form' ? 'Write JSON' : 'Back to the form'}</button>`}
    </div>
  </form>`;
}

function parse(json) {
  try {
    const value = JSON.parse(json.trim() || '{}');
    return isObject(value) ? { value } : { error: 'Arguments are an object: {"name": value, …}.' };
  } catch (error) {
    return { error: `This is not JSON: ${error.message}.` };
  }
}

/** The properties of an object. */
function Fields({ field, draft, path, errors, onChange, suggest }) {
  const set = (name, value) => onChange({ ...draft, properties: new Map(draft.properties).set(name, value) });
  return html`
    ${field.properties.map(property => html`<${Property} key=${property.name} ...${property} label=${property.name}
      path=${`${path}/${property.name}`} draft=${draft.properties.get(property.name)} errors=${errors}
      onChange=${value => set(property.name, value)}
      suggest=${path === '' && suggest ? value => suggest(property.name, value, texts(draft, property.name)) : undefined} />`)}
    ${draft.extra.length > 0
      && html`<p class="hint">Beside that, as JSON: <${Text} value=${draft.extra.map(([name]) => name).join(', ')}
      max=${200} />.</p>`}
    ${field.left > 0 && html`<p class="cut">
      ${field.left.toLocaleString('en')} more properties are not shown. Write JSON to use them.</p>`}`;
}

const texts = (draft, except) =>
  Object.fromEntries([...draft.properties].filter(([name, value]) => name !== except && typeof value === 'string' && value));

/** One field with its label, what is to be known of it, and what is wrong with it. */
function Property({ label, field, required, draft, path, errors, onChange, suggest, onRemove, isPart = false,
  isLabelled = true }) {
  const id = useId();
  const error = errors.get(path);
  const hint = constraints(field);
  const described = [error && `${id}-wrong`, hint && `${id}-hint`, field.description && `${id}-about`].filter(Boolean).join(' ')
    || undefined;
  const isGroup = ['object', 'array', 'multi', 'union'].includes(field.kind);
  const title = html`<span class="field-name"><${Text} value=${label} max=${100} /></span>
    ${field.title && field.title !== label && html` <span class="field-title"><${Text} value=${field.title} max=${100} /></span>`}
    ${required && !isPart ? html` <span class="required" aria-hidden=${isGroup ? undefined : 'true'}>required</span>` : ''}`;
  const below = html`
    ${field.description && html`<div id=${`${id}-about`} class="hint about">
      <${LongText} value=${field.description} first=${400} /></div>`}
    ${field.kind === 'json' && html`<p class="hint">
      ${field.why ? `${field.why} It is written as JSON.` : 'Written as JSON.'}</p>`}
    ${hint && html`<p id=${`${id}-hint`} class="hint">${hint}</p>`}
    ${error && html`<p id=${`${id}-wrong`} class="wrong">${error}</p>`}`;
  const control = { id, field, draft, path, errors, onChange, required, described, invalid: error ? 'true' : undefined, suggest,
    label };
  if (isGroup) {
    return html`<fieldset class=${`field group ${onRemove ? 'with-remove' : ''}`} aria-describedby=${described}
      tabindex=${error ? -1 : undefined} aria-invalid=${error ? 'true' : undefined}>
      <legend>${title}</legend>${below}<div class="group-body"><${Control} ...${control} /></div>${onRemove}
    </fieldset>`;
  }
  if (field.kind === 'boolean' && (required || field.hasDefault)) {
    return html`<div class="field check"><div class="check-row"><${Control} ...${control} /><label for=${id}>${title}</label>
      ${onRemove}</div>${below}</div>`;
  }
  return html`<div class="field"><label for=${id} class=${isLabelled ? '' : 'unseen'}>${title}</label><div class="control-row">
    <${Control} ...${control} />${onRemove}</div>${below}</div>`;
}

function Control({ id, field, draft, path, errors, onChange, required, described, invalid, suggest, label }) {
  const common = { id, 'aria-describedby': described, 'aria-invalid': invalid, 'aria-required': required ? 'true' : undefined };
  const onInput = event => onChange(event.currentTarget.value);
  switch (field.kind) {
    case 'const':
      return html`<output ...${common} class="mono"><${Text} value=${field.label} /></output>`;
    case 'string':
      return html`<${TextControl} common=${common} field=${field} draft=${draft} onInput=${onInput} onChange=${onChange}
        suggest=${suggest} />`;
    case 'number':
    case 'integer':
      return html`<input ...${common} type="text"
        inputmode=${field.kind === 'integer' && !(field.min < 0) ? 'numeric' : 'decimal'} value=${draft} onInput=${onInput}
        autocomplete="off" />`;
    case 'boolean':
      if (required || field.hasDefault) {
        return html`<input ...${common} type="checkbox" checked=${draft === true}
          onChange=${event => onChange(event.currentTarget.checked)} />`;
      }
      return html`<select ...${common} value=${String(draft ?? '')}
        onChange=${event => onChange({ true: true, false: false }[event.currentTarget.value])}>
        <option value="">not set</option><option value="true">yes</option><option value="false">no</option></select>`;
    case 'enum':
      return html`<select ...${common} value=${draft} onChange=${onInput}>
        <option value="">${required ? 'choose…' : 'not set'}</option>
        ${field.options.map((option, i) => html`<option key=${i} value=${String(i)}>${plain(option.label)}</option>`)}</select>`;
    case 'multi':
      return html`<div class="choices">
        ${field.options.map((option, i) => html`<label key=${i}><input type="checkbox" checked=${draft.chosen.includes(i)}
        onChange=${event => onChange({ chosen: event.currentTarget.checked ? [...draft.chosen, i]
          : draft.chosen.filter(other => other !== i) })} />
        <${Text} value=${option.label} /></label>`)}</div>`;
    case 'array':
      return html`<${Items} ...${{ field, draft, path, errors, onChange, label }} />`;
    case 'union':
      return html`
        <label class="choice-label" for=${id}>as</label>
        <select id=${id} value=${String(draft.choice)}
          onChange=${event => onChange({ ...draft, choice: Number(event.currentTarget.value) })}>
          ${field.choices.map((choice, i) => html`<option key=${i} value=${String(i)}>${plain(choice.label)}</option>`)}</select>
        <${Property} key=${draft.choice} label=${field.choices[draft.choice].label} field=${field.choices[draft.choice].field}
          required=${required} isPart=${true} isLabelled=${false}
          draft=${draft.drafts[draft.choice]} path=${`${path}/${draft.choice}`} errors=${errors}
          onChange=${value => onChange({ ...draft, drafts: draft.drafts.with(draft.choice, value) })} />`;
    case 'object':
      return html`<${Fields} field=${field} draft=${draft} path=${path} errors=${errors} onChange=${onChange} />`;
    default:
      return html`<textarea ...${common} class="mono" rows="3" spellcheck=${false} value=${draft} onInput=${onInput}
        placeholder=${field.example ?? ''}></textarea>`;
  }
}

const INPUT_TYPES = { email: 'email', uri: 'url', url: 'url', date: 'date' };

function TextControl({ common, field, draft, onInput, onChange, suggest }) {
  const [values, setValues] = useState([]);
  const listId = useId();
  const timer = useRef();
  useEffect(() => () => clearTimeout(timer.current), []);
  const ask = value => {
    if (!suggest) return;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => suggest(value).then(setValues, () => {}), 200);
  };
  const type = INPUT_TYPES[field.format];
  if (type || suggest || field.maxLength <= 100) {
    return html`<input ...${common} type=${type ?? 'text'} value=${draft} autocomplete="off" spellcheck=${false}
      list=${suggest ? listId : undefined}
      onFocus=${() => ask(draft)} onInput=${event => { onChange(event.currentTarget.value); ask(event.currentTarget.value); }} />
      ${suggest && html`<datalist id=${listId}>
        ${values.map(value => html`<option key=${value} value=${cut(value, 1000)} />`)}</datalist>`}`;
  }
  return html`<textarea ...${common} rows="1" class="grow" value=${draft} onInput=${onInput}></textarea>`;
}

const MAX_ITEMS = 100;

function Items({ field, draft, path, errors, onChange, label }) {
  const box = useRef();
  const set = items => onChange({ ...draft, items });
  const add = () => {
    set([...draft.items, firstDraft(field.item)]);
    setTimeout(() => [...box.current.querySelectorAll(':scope > .field')].at(-1)?.querySelector('input, textarea, select')?.focus());
  };
  const remove = i => {
    set(draft.items.toSpliced(i, 1));
    setTimeout(() => box.current.querySelector('.add').focus());
  };
  return html`<div class="items" ref=${box}>
    ${draft.items.map((item, i) =>
      html`<${Property} key=${i} label=${`${i + 1}`} field=${field.item} required=${true} isPart=${true} draft=${item}
      path=${`${path}/${i}`} errors=${errors}
      onChange=${value => set(draft.items.with(i, value))}
      onRemove=${html`<button type="button" class="quiet remove" onClick=${() => remove(i)}
        aria-label=${`Remove ${plain(label, 50)} ${i + 1}`}><${Icon} name="close" /></button>`} />`)}
    <button type="button" class="add" aria-disabled=${draft.items.length >= MAX_ITEMS ? 'true' : undefined}
      onClick=${() => { if (draft.items.length < MAX_ITEMS) add(); }}>
        <${Icon} name="plus" />Add${draft.items.length ? ' another' : ''}</button>
    ${draft.items.length >= MAX_ITEMS && html`<p class="hint">For more, write JSON.</p>`}
  </div>`;
}
