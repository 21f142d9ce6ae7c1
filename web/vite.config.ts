import { defineConfig } from 'vitest/config';

export default defineConfig({
  base: '/',
  build: {
    target: 'es2022',
    // No data: URLs and no inlined preloads: the pages run under a strict content policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['visitor.html', 'agent.html'] },
  },
  test: { include: ['client/**/*.test.ts', 'shared/**/*.test.ts', 'agent/**/*.test.ts'], environment: 'node' },
});
