#!/usr/bin/env node
/** The program: begins what takes longest, and then loads the command. */
import { dropEarly } from './early.ts';

// Not waited for at the top: what does that cannot be CommonJS.
void import('./command.ts').then(({ main }) => main(dropEarly));
