// Checks the workflows of docs/n8n.md against the descriptions of the nodes: types, versions, parameters, their values, and
// the connections. Prints every mistake and ends with an error if there is one.
//
//   node tests/clients/n8n.mjs TOOLS
//
// TOOLS is where scripts/setup.sh installs the packages of these tests.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import Module, { createRequire } from "node:module";
import { join, resolve as resolvePath } from "node:path";

const [tools] = process.argv.slice(2);
const json = async (path) => JSON.parse(await readFile(path, "utf8"));

/** The node of Evolution API. It needs n8n only to run, so another module stands in for what it imports. */
function evolution() {
  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (name, ...rest) {
    return resolve.call(this, name === "n8n-workflow" || name === "axios" ? "os" : name, ...rest);
  };
  const require = createRequire(join(resolvePath(tools), "node_modules/"));
  const { EvolutionApi } = require("n8n-nodes-evolution-api/dist/nodes/EvolutionApi/EvolutionApi.node.js");
  return new EvolutionApi().description;
}

const types = [
  ...(await json(join(tools, "n8n/nodes.json"))).map((type) => ({ ...type, full: `n8n-nodes-base.${type.name}` })),
  { ...evolution(), full: "n8n-nodes-evolution-api.evolutionApi" },
  { ...(await json("tests/clients/waha-node.json")), full: "@devlikeapro/n8n-nodes-waha.WAHA" },
];

const mistakes = [];

/** Whether a condition of `displayOptions` holds for a value. */
function fits(condition, value) {
  if (condition?._cnd === undefined) return condition === value;
  const { _cnd: cnd } = condition;
  const tests = {
    eq: (x) => value === x,
    not: (x) => value !== x,
    gt: (x) => value > x,
    gte: (x) => value >= x,
    lt: (x) => value < x,
    lte: (x) => value <= x,
    exists: () => value !== undefined && value !== null && value !== "",
  };
  return Object.entries(cnd).every(([name, x]) => {
    assert.ok(tests[name], `a condition that this check does not know: ${name}`);
    return tests[name](x);
  });
}

/** Whether n8n shows a property, with these values beside it and in the whole node. */
function shown(property, version, values, root) {
  const value = (name) => {
    if (name === "@version") return version;
    return name.startsWith("/") ? root[name.slice(1)] : values[name];
  };
  const { show = {}, hide = {} } = property.displayOptions ?? {};
  const any = ([name, conditions]) => conditions.some((condition) => fits(condition, value(name)));
  return Object.entries(show).every(any) && !Object.entries(hide).some(any);
}

/** Checks given values against the properties that there are, and fills in the defaults, on which others depend. */
function check(place, properties, given, version, root) {
  const values = { ...given };
  // A default may depend on another property, so this goes round until nothing changes.
  for (let before = -1; before !== Object.keys(values).length; ) {
    before = Object.keys(values).length;
    for (const property of properties) {
      if (!(property.name in values) && shown(property, version, values, root ?? values)) values[property.name] = property.default;
    }
  }
  const here = root ?? values;
  for (const [name, value] of Object.entries(given)) {
    const property = properties.find((one) => one.name === name && one.type !== "notice" && shown(one, version, values, here));
    if (property) checkValue(`${place}.${name}`, property, value, version, here);
    else mistakes.push(`${place}.${name}: there is no such parameter with these values`);
  }
  for (const property of properties) {
    const wanted = property.required && property.type !== "credentialsSelect" && shown(property, version, values, here);
    if (wanted && [undefined, ""].includes(values[property.name])) mistakes.push(`${place}.${property.name}: it is required`);
  }
}

function checkValue(place, property, value, version, root) {
  const wrong = (what) => mistakes.push(`${place}: ${what}, not ${JSON.stringify(value)}`);
  const isExpression = typeof value === "string" && value.startsWith("=");
  if (isExpression) {
    if (property.noDataExpression) wrong("no expression is possible here");
    return;
  }
  switch (property.type) {
    case "options": {
      const options = property.options ?? [];
      if (!options.some((option) => option.value === value)) wrong(`expected one of its options`);
      break;
    }
    case "boolean":
    case "number":
    case "string":
      if (typeof value !== property.type) wrong(`expected a ${property.type}`);
      break;
    case "json":
      try {
        JSON.parse(value);
      } catch {
        wrong("expected JSON");
      }
      break;
    case "collection":
      check(place, property.options, value, version, root);
      break;
    case "fixedCollection":
      for (const [name, inside] of Object.entries(value)) {
        const group = property.options.find((option) => option.name === name);
        if (!group) mistakes.push(`${place}.${name}: there is no such group`);
        const each = property.typeOptions?.multipleValues ? inside : [inside];
        if (!Array.isArray(each)) wrong("expected a list");
        else if (group) each.forEach((one, index) => check(`${place}.${name}[${index}]`, group.values, one, version, root));
      }
      break;
    case "assignmentCollection":
      for (const { id, name, type, value: assigned, ...more } of value.assignments) {
        if (!id || !name || type !== typeof assigned || Object.keys(more).length > 0) wrong("expected id, name, type and value");
      }
      break;
    case "filter":
      for (const { id, leftValue, operator, ...more } of value.conditions) {
        delete more.rightValue;
        const known = { string: ["equals"], boolean: ["true"], number: ["lte"] }[operator?.type] ?? [];
        if (!id || !leftValue || !known.includes(operator.operation) || Object.keys(more).length > 0) wrong("a condition is unknown");
      }
      if (!["and", "or"].includes(value.combinator)) wrong("expected and or or");
      break;
    case "credentialsSelect":
      if (!/^http(Bearer|Header|Basic|Query)Auth$/.test(value)) wrong("expected a generic credential");
      break;
    default:
      assert.fail(`${place}: a type that this check does not know: ${property.type}`);
  }
}

function checkWorkflow(workflow) {
  const names = workflow.nodes.map((node) => node.name);
  assert.equal(new Set(names).size, names.length, `${workflow.name}: two nodes have the same name`);
  const flags = ["retryOnFail", "maxTries", "waitBetweenTries", "webhookId"];
  for (const { parameters, name, type, typeVersion, position, id, ...more } of workflow.nodes) {
    const place = `${workflow.name}: ${name}`;
    const described = types.find((one) => one.full === type && [one.version].flat().includes(typeVersion));
    if (!described) {
      mistakes.push(`${place}: there is no ${type} of version ${typeVersion}`);
      continue;
    }
    assert.ok(Array.isArray(position) && id && Object.keys(more).every((key) => flags.includes(key)), place);
    check(place, described.properties, parameters, typeVersion);
    // An expression must name nodes that there are.
    for (const [, named] of JSON.stringify(parameters).matchAll(/\$\('([^']+)'\)/g)) {
      if (!names.includes(named)) mistakes.push(`${place}: an expression names ${named}, which is no node`);
    }
  }
  const reached = new Set();
  for (const [from, { main }] of Object.entries(workflow.connections)) {
    for (const { node } of main.flat()) {
      if (!names.includes(from) || !names.includes(node)) mistakes.push(`${workflow.name}: ${from} to ${node}: no such node`);
      reached.add(node);
    }
  }
  const alone = names.slice(1).filter((name) => !reached.has(name));
  if (alone.length > 0) mistakes.push(`${workflow.name}: nothing leads to ${alone}`);
}

const page = await readFile("docs/n8n.md", "utf8");
const workflows = [...page.matchAll(/^```json\n(.*?)^```/gms)].map(([, text]) => JSON.parse(text));
assert.equal(workflows.length, 5);
workflows.forEach(checkWorkflow);

// A check that finds nothing must be able to find something.
const found = mistakes.length;
const broken = structuredClone(workflows[0]);
broken.nodes[3].parameters.sendFile = true;
broken.nodes[3].parameters.contentType = "binary";
broken.nodes[2].parameters.options.response.response.responseFormat = "audio";
broken.connections.Start.main[0][0].node = "Nowhere";
checkWorkflow(broken);
assert.ok(mistakes.length >= found + 4, "the check finds too little");
mistakes.length = found;

assert.deepEqual(mistakes, []);
console.log(`${workflows.length} workflows use only what the nodes have`);
