import assert from 'node:assert/strict';
import test from 'node:test';
import { answer } from '../app.js';

test('greets the world', () => assert.equal(answer('/').body, 'hello, world\n'));
test('greets by name', () => assert.equal(answer('/?name=Ana').body, 'hello, Ana\n'));
test('answers its probe', () => assert.equal(answer('/healthz').status, 200));
test('knows what it does not know', () => assert.equal(answer('/nowhere').status, 404));
